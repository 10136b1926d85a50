"""A host VM with a QMP server and a sleeping process in place of QEMU: each way to start, saving, and the end."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cpuidlab.base import artifacts
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig import rest, vm_process
from cpuidlab.rig.host_machine import Boot
from cpuidlab.rig.host_qemu import ACCEL, CPU
from cpuidlab.rig.host_vm import QemuMachine
from cpuidlab.rig.snapshots import RESTORABLE
from fakeqmp import FakeQmp, No, Refused

BOOT = Boot(Path("/k"), Path("/i"), "console=ttyS0", ACCEL, CPU)
PAGE = b"page" * 1024
QUIET = "TCP[HOST_FORWARD]  9   127.0.0.1 4242  10.0.2.15 22\r\n"


class FakeQemu:
    """What was started in place of QEMU: its command, its memory, its console, and its QMP server."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"query-migrate": {"status": "completed"}, "human-monitor-command": QUIET}
        self.command: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    def spawn(self, command: list[str], descriptors: tuple[int, ...], stderr: int) -> "subprocess.Popen[bytes]":
        self.command = command
        self.memory, self.console = (os.dup(descriptor) for descriptor in descriptors[:2])
        self.qmp = FakeQmp(socket.socket(fileno=os.dup(descriptors[2])), self.answers)
        self.qmp.start()
        os.write(stderr, b"qemu: a warning\n")
        self.processes.append(subprocess.Popen(["sleep", "60"], pass_fds=descriptors[:1]))
        return self.processes[-1]

    def option(self, name: str) -> str:
        return self.command[self.command.index(name) + 1]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        if self.processes:
            os.close(self.memory)
            os.close(self.console)


@pytest.fixture
def qemu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeQemu]:
    fake = FakeQemu()
    monkeypatch.setattr(vm_process, "spawn", fake.spawn)
    monkeypatch.setattr(rest, "SECONDS", (0.01, 0.05))
    yield fake
    fake.close()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / RESTORABLE.name / "saved"
    folder.mkdir(parents=True)
    (folder / "ram").write_bytes(PAGE)
    return folder


def soon() -> Deadline:
    return Deadline.after(10)


def test_a_cold_machine_boots_with_memory_that_can_be_saved(qemu: FakeQemu) -> None:
    machine = QemuMachine.start("host", BOOT, soon())
    assert (qemu.option("-kernel"), qemu.option("-initrd"), qemu.option("-append")) == ("/k", "/i", "console=ttyS0")
    assert "share=on" in qemu.option("-object")
    assert "-incoming" not in qemu.command
    assert qemu.qmp.commands() == []
    machine.stop()


def test_a_restored_machine_shares_the_saved_memory(qemu: FakeQemu, saved: Path) -> None:
    machine = QemuMachine.restore("host", BOOT, saved, soon())
    assert "share=off" in qemu.option("-object")
    assert "-initrd" not in qemu.command and qemu.option("-incoming") == "defer"
    assert os.path.sameopenfile(qemu.memory, machine._memory.fileno())
    assert (saved / "ram").samefile(f"/proc/self/fd/{qemu.memory}")
    loading = ["migrate-set-capabilities", "migrate-incoming", "query-migrate", "cont"]
    assert qemu.qmp.commands() == loading
    assert qemu.qmp.got[-3]["arguments"] == {"uri": f"exec:cat {saved}/state"}
    machine.stop()


def test_a_restored_copy_has_memory_of_its_own(qemu: FakeQemu, saved: Path) -> None:
    machine = QemuMachine.restore_copy("host", BOOT, saved, soon())
    assert "share=on" in qemu.option("-object")
    assert os.pread(qemu.memory, 9999, 0) == PAGE
    os.pwrite(qemu.memory, b"PAGE", 0)
    assert (saved / "ram").read_bytes() == PAGE
    assert qemu.qmp.commands()[-1] == "cont"
    machine.stop()


@pytest.mark.parametrize("restore", [QemuMachine.restore, QemuMachine.restore_copy])
def test_a_snapshot_that_is_not_whole(restore: Any, qemu: FakeQemu, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        restore("host", BOOT, tmp_path / "gone", soon())
    assert not qemu.processes


@pytest.mark.parametrize(
    ("answers", "kind", "told"),
    [
        ({"query-migrate": {"status": "failed"}}, LabError, "host: restoring the machine failed: qemu: a warning"),
        ({"migrate-incoming": Refused("no file")}, LabError, "migrate-incoming was refused: no file"),
        ({"cont": No.CONNECTION}, LostVMError, "QMP broke off during cont"),
    ],
)
def test_a_state_that_cannot_be_loaded_ends_qemu(
    qemu: FakeQemu, saved: Path, answers: dict[str, Any], kind: type[LabError], told: str
) -> None:
    qemu.answers |= answers
    with pytest.raises(kind, match=told) as error:
        QemuMachine.restore("host", BOOT, saved, soon())
    assert type(error.value) is kind
    assert qemu.processes[0].poll() is not None
    assert "exit code: -9" in error.value.evidence and "qemu: a warning" in error.value.evidence
    assert '"migrate-incoming"' in error.value.evidence


def test_a_qemu_that_ends_at_once(qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeQmp, "run", lambda self: self._stream.close())
    with pytest.raises(LostVMError, match="QMP greeting") as error:
        QemuMachine.start("host", BOOT, soon())
    assert qemu.processes[0].poll() is not None
    assert "qemu: a warning" in error.value.evidence


def test_saving_stops_the_machine_meanwhile(qemu: FakeQemu, tmp_path: Path) -> None:
    machine = QemuMachine.start("host", BOOT, soon())
    os.ftruncate(qemu.memory, 1 << 20)
    os.pwrite(qemu.memory, PAGE, 1 << 19)
    machine.snapshot(tmp_path / "stage", soon())
    assert (tmp_path / "stage/ram").read_bytes()[1 << 19 :].startswith(PAGE)
    assert (tmp_path / "stage/ram").stat().st_size == 1 << 20
    saving = ["human-monitor-command", "stop", "migrate-set-capabilities", "migrate", "query-migrate", "cont"]
    assert qemu.qmp.commands() == saving
    machine.stop()


def test_no_machine_is_saved_with_an_open_connection(qemu: FakeQemu, tmp_path: Path) -> None:
    qemu.answers["human-monitor-command"] = "TCP[ESTABLISHED] 9 127.0.0.1 4242 10.0.2.15 22\r\n"
    machine = QemuMachine.start("host", BOOT, soon())
    # the deadline passes between two looks, or during one
    with pytest.raises(LabError, match=r"in vain for the host's connections to end|no answer to human-monitor-command"):
        machine.snapshot(tmp_path / "stage", Deadline.after(0.1))
    assert not (tmp_path / "stage").exists()
    assert "stop" not in qemu.qmp.commands()
    machine.stop()


def test_the_forwarded_port_is_qemus(qemu: FakeQemu) -> None:
    machine = QemuMachine.start("host", BOOT, soon())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        qemu.qmp.answers["human-monitor-command"] = QUIET.replace("4242", str(port))
        with machine.connect(soon()) as stream:
            assert stream.getpeername()[1] == port
    qemu.qmp.answers["human-monitor-command"] = ""
    with pytest.raises(LabError, match="forwards no port"):
        machine.connect(soon())
    machine.stop()


def test_a_machine_that_ended_by_itself(qemu: FakeQemu) -> None:
    machine = QemuMachine.start("host", BOOT, soon())
    machine.watch()
    qemu.processes[0].kill()
    qemu.processes[0].wait()
    with pytest.raises(LostVMError, match="host: QEMU ended with exit code -9: qemu: a warning"):
        machine.watch()
    machine.stop()


def test_the_panic_that_ended_a_machine_is_told_first(qemu: FakeQemu) -> None:
    machine = QemuMachine.start("host", BOOT, soon())
    os.write(qemu.console, b"[   18.3] Kernel panic - not syncing: Fatal exception\r\n")
    qemu.processes[0].kill()
    qemu.processes[0].wait()
    with pytest.raises(LostVMError, match="the host's console says: Kernel panic - not syncing: Fatal exception"):
        machine.watch()
    machine.stop()


def test_what_stands_above_a_panics_stacks_is_evidence(qemu: FakeQemu) -> None:
    machine = QemuMachine.start("host 6.1-npt", BOOT, soon())
    lines = ["[   18.1] Oops: general protection fault", *["[   18.2]  ? do_syscall_64+0xbc/0x800"] * 120]
    os.write(qemu.console, "\r\n".join([*lines, "[   18.3] Kernel panic - not syncing: Oops"]).encode())
    with pytest.raises(LostVMError, match="the host's console says: Kernel panic - not syncing: Oops") as lost:
        machine.watch()
    assert lines[0] in lost.value.evidence
    machine.stop()


def test_a_snapshot_is_in_use_until_its_qemu_ends(qemu: FakeQemu, saved: Path) -> None:
    machine = QemuMachine.restore("host", BOOT, saved, soon())
    os.close(qemu.memory)
    qemu.memory = os.dup(0)
    assert not artifacts.drop(saved)
    machine._memory.close()  # now as if only QEMU had it
    assert not artifacts.drop(saved)
    machine.stop()
    assert artifacts.drop(saved)
