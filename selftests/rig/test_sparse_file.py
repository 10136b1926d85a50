"""Copies of a machine's memory, with holes where there are zeros."""

import errno
import os
from pathlib import Path

import pytest
from cpuidlab.rig.sparse_file import BLOCK, copy_sparse


def copied(source: int) -> int:
    target = os.memfd_create("copy")
    copy_sparse(source, target)
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
        copy_sparse(source, file.fileno())
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
