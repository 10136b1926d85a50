"""What of the carrier needs no machine: copies with holes, and how a panic is told."""

import errno
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from cpuidlab.base import artifacts
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LostVMError
from cpuidlab.rig import host_vm
from cpuidlab.rig.host_vm import Boot, TcgMachine, _copy_sparse

BLOCK = 64 * 1024


def copied(source: int) -> int:
    target = os.memfd_create("copy")
    _copy_sparse(source, target)
    return target


def content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def memory(size: int, **pieces: bytes) -> int:
    descriptor = os.memfd_create("memory")
    os.ftruncate(descriptor, size)
    for where, piece in pieces.items():
        os.pwrite(descriptor, piece, int(where.removeprefix("at")))
    return descriptor


@pytest.mark.parametrize(
    "source",
    [
        memory(0),
        memory(8 * BLOCK),
        memory(8 * BLOCK, at0=b"first"),
        memory(8 * BLOCK, at524287=b"l"),
        memory(8 * BLOCK, at65530=b"over the border"),
        memory(5 * BLOCK + 77, at0=b"a" * 3 * BLOCK, at327700=b"tail"),
    ],
    ids=["empty", "hole", "first", "last byte", "border", "odd size"],
)
def test_a_copy_is_the_same(source: int) -> None:
    target = copied(source)
    assert content(target) == content(source)
    os.close(source)
    os.close(target)


def test_holes_and_written_zeros_stay_holes() -> None:
    source = memory(64 * BLOCK, at0=bytes(16 * BLOCK), at2097152=b"x" * BLOCK)
    target = copied(source)
    assert os.fstat(source).st_blocks * 512 >= 17 * BLOCK
    assert os.fstat(target).st_blocks * 512 < 4 * BLOCK
    assert content(target) == content(source)
    os.close(source)
    os.close(target)


def test_from_and_to_a_file(tmp_path: Path) -> None:
    source = memory(20 * BLOCK, at655360=b"page" * 1024)
    with (tmp_path / "ram").open("w+b") as file:
        _copy_sparse(source, file.fileno())
        again = copied(file.fileno())
    assert content(again) == content(source)
    os.close(source)
    os.close(again)


def test_a_disk_that_fills_up_under_the_last_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    source = memory(BLOCK, at0=b"x" * BLOCK)
    monkeypatch.setattr(os, "pwrite", lambda _descriptor, data, _offset: len(data) - 4096)
    with pytest.raises(OSError, match="no space") as caught:
        copied(source)
    assert caught.value.errno == errno.ENOSPC
    os.close(source)


def test_what_stands_above_a_panics_stacks_is_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["[   18.1] Oops: general protection fault", *["[   18.2]  ? do_syscall_64+0xbc/0x800"] * 120]
    monkeypatch.setattr(
        TcgMachine, "console", lambda _: "\r\n".join([*lines, "[   18.3] Kernel panic - not syncing: Oops"])
    )
    monkeypatch.setattr(TcgMachine, "stderr", lambda _: "")
    machine = TcgMachine.__new__(TcgMachine)
    machine.name, machine.command = "host 6.1-npt", ("qemu",)
    machine._process = SimpleNamespace(poll=lambda: None)  # type: ignore[assignment]
    machine.qmp = SimpleNamespace(tail=str)  # type: ignore[assignment]
    with pytest.raises(LostVMError, match="the host's console says: Kernel panic - not syncing: Oops") as lost:
        machine.watch()
    assert lines[0] in lost.value.evidence


def test_what_is_thawed_is_used_until_its_qemu_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def spawn(_: object, descriptors: tuple[int, ...], _stderr: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(["sleep", "60"], pass_fds=descriptors)

    qmp = SimpleNamespace(execute=lambda *_, **__: {"status": "completed"}, watch=lambda: None, close=lambda: None)
    monkeypatch.setattr(host_vm, "_spawn", spawn)
    monkeypatch.setattr(host_vm, "Qmp", lambda *_: qmp)
    (tmp_path / "ram").touch()
    machine = TcgMachine("host", Boot(Path("/k"), Path("/i"), ""), Deadline.after(9), tmp_path)
    try:
        assert not artifacts.drop(tmp_path)
        machine._memory.close()  # now as if only QEMU had it
        assert not artifacts.drop(tmp_path)
    finally:
        machine.stop()
    machine.stop()
    assert artifacts.drop(tmp_path)
