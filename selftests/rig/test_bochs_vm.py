"""A host VM with a thread in place of Bochs, which answers as the patched Bochs does: start, save, restore, end."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig import bochs_vm, rest, vm_process
from cpuidlab.rig.bochs import Bochs
from cpuidlab.rig.bochs_command import MACHINE
from cpuidlab.rig.bochs_vm import BochsMachine
from cpuidlab.rig.host_machine import Boot
from cpuidlab.rig.snapshots import RESTORABLE, _is_in_use

BOOT = Boot(Path("/k"), Path("/i"), "console=ttyS0", "bochs", "a_model")
PAGE = b"page" * 1024
LAID_OUT = b"a kernel"


class FakeBochs:
    """What was started in place of Bochs: its command, environment and memory, and what it was asked."""

    def __init__(self) -> None:
        self.answers = {b"?": b"running", b"/": b"saved"}
        self.asked: list[bytes] = []
        self.command: list[str] = []
        self.environment: dict[str, str] = {}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.kept: list[socket.socket] = []
        self.runs = "60"

    def spawn(
        self, command: list[str], descriptors: tuple[int, ...], stderr: int, **environment: str
    ) -> "subprocess.Popen[bytes]":
        self.command, self.environment = command, environment
        self.memory = os.dup(int(environment["BOCHS_RAM"]))
        self.console = os.dup(int(environment["CONSOLE"]))
        control, line = (socket.socket(fileno=os.dup(int(environment[name]))) for name in ("BOCHS_CONTROL", "LINE"))
        self.kept += [control, line]
        self.line = line
        threading.Thread(target=self._answer, args=(control,), daemon=True).start()
        os.write(stderr, b"PANIC: a reason\n")
        self.processes.append(subprocess.Popen(["sleep", self.runs], pass_fds=(self.memory,)))
        return self.processes[-1]

    def _answer(self, control: socket.socket) -> None:
        try:
            while message := control.recv(512):
                self.asked.append(message)
                if answer := self.answers.get(message[:1]):
                    if message.startswith(b"/") and answer == b"saved":
                        Path(message.decode(), "config").write_text("with numbers of descriptors")
                    control.send(answer)
        except OSError:
            return

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for end in self.kept:
            end.close()


@pytest.fixture
def bochs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBochs]:
    fake = FakeBochs()
    monkeypatch.setattr(vm_process, "spawn", fake.spawn)
    monkeypatch.setattr(rest, "SECONDS", (0.01, 0.05))
    monkeypatch.setattr(bochs_vm, "bochs", lambda: Bochs(Path("/build")))
    monkeypatch.setattr(bochs_vm, "boot_rom", lambda: b"boots")
    monkeypatch.setattr(bochs_vm, "lay_out", lambda memory, _: os.pwrite(memory, LAID_OUT, 4096))
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


def test_a_cold_machine_finds_its_kernel_in_memory(bochs: FakeBochs) -> None:
    machine = BochsMachine.start("host", BOOT, soon())
    assert bochs.command == ["/build/bochs", "-q", "-f", str(MACHINE)]
    assert (bochs.environment["MODEL"], bochs.environment["BIOS"]) == ("a_model", "/build/BIOS-bochs-latest")
    assert os.pread(bochs.memory, len(LAID_OUT), 4096) == LAID_OUT
    assert os.fstat(bochs.memory).st_size == 1024 << 20
    os.write(bochs.console, b"booting")
    assert machine.console() == "booting"
    machine.watch()
    machine.stop()
    assert bochs.processes[0].poll() is not None


def test_a_machine_is_saved_while_bochs_rests(bochs: FakeBochs, tmp_path: Path) -> None:
    machine = BochsMachine.start("host", BOOT, soon())
    folder = tmp_path / "snapshot"
    machine.snapshot(folder, soon())
    assert (folder / "ram").read_bytes()[4096 : 4096 + len(LAID_OUT)] == LAID_OUT
    assert (folder / "config").read_text() == MACHINE.read_text()  # not what Bochs has written
    machine.stop()
    assert bochs.asked == [b"?", str(folder).encode(), b"!"]


def test_a_machine_with_an_open_connection_is_not_saved(bochs: FakeBochs, tmp_path: Path) -> None:
    machine = BochsMachine.start("host", BOOT, soon())
    machine.connect(soon())
    with pytest.raises(LabError, match="in vain for the host's connections to end on host"):
        machine.snapshot(tmp_path / "snapshot", Deadline.after(0.1))
    assert not (tmp_path / "snapshot").exists()
    machine.stop()


def test_a_machine_that_cannot_be_saved_is_an_error(bochs: FakeBochs, tmp_path: Path) -> None:
    bochs.answers[b"/"] = b"failed"
    machine = BochsMachine.start("host", BOOT, soon())
    with pytest.raises(LabError, match="host: saving the machine failed: Bochs answers b'failed'"):
        machine.snapshot(tmp_path / "snapshot", soon())
    with pytest.raises(LabError, match="Bochs saves no machine under so long a path; set XDG_CACHE_HOME"):
        machine.snapshot(tmp_path / ("x" * 200) / ("y" * 200), soon())
    machine.stop()


def test_a_restored_machine_maps_the_saved_memory_and_keeps_it_in_the_cache(bochs: FakeBochs, saved: Path) -> None:
    machine = BochsMachine.restore("host", BOOT, saved, soon())
    assert bochs.command == ["/build/bochs", "-q", "-r", str(saved)]
    assert os.pread(bochs.memory, len(PAGE), 0) == PAGE
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(bochs.memory, b"x", 0)
    assert _is_in_use(saved)
    machine.stop()


def test_a_copy_has_memory_of_its_own(bochs: FakeBochs, saved: Path) -> None:
    machine = BochsMachine.restore_copy("host", BOOT, saved, soon())
    os.pwrite(bochs.memory, b"x", 0)
    assert (saved / "ram").read_bytes() == PAGE
    assert not _is_in_use(saved)
    machine.stop()


def test_bochs_that_ends_is_lost_with_its_last_line(bochs: FakeBochs) -> None:
    bochs.runs, bochs.answers = "0", {}
    with pytest.raises(LostVMError, match="host: Bochs ended with exit code 0: PANIC: a reason"):
        BochsMachine.start("host", BOOT, soon())


def test_bochs_that_does_not_answer_is_ended(bochs: FakeBochs) -> None:
    bochs.answers = {}
    with pytest.raises(LabError, match="in vain for Bochs to run of host"):
        BochsMachine.start("host", BOOT, Deadline.after(0.1))
    assert bochs.processes[0].poll() is not None


def test_a_panic_is_told_before_its_consequences(bochs: FakeBochs) -> None:
    machine = BochsMachine.start("host", BOOT, soon())
    os.write(bochs.console, b"Kernel panic - not syncing: why\r\n")
    bochs.processes[0].kill()
    with pytest.raises(LostVMError, match="host: the host's console says: Kernel panic - not syncing: why"):
        machine.watch()
    machine.stop()


def test_a_broken_line_is_a_lost_machine(bochs: FakeBochs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bochs_vm, "ENDING_SECONDS", 0.01)
    machine = BochsMachine.start("host", BOOT, soon())
    bochs.line.sendall(b"not a frame")
    with pytest.raises(LostVMError, match="host: bytes of the line are lost"):
        while True:
            machine.watch()
    machine.stop()
