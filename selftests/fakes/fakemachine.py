"""A host machine without QEMU, and the two VMs that a rig logs in to, without SSH."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig import guest_config, rig
from cpuidlab.rig.host_machine import Boot
from cpuidlab.rig.ram_delta import PAGE
from fakechannel import FakeChannel
from fakeqmp import FakeQmp

UPTIME, GUEST_LOG = "12.34 20.00\n", "6,0,0,-;Linux version\n6,7,900,-;up\n"


def memory(saved: int) -> bytes:
    """The memory that is saved that often: page 0 always changes, page 1 comes and goes."""
    return bytes([saved]) * PAGE + bytes([0xAA if saved % 2 == 0 else 0]) * PAGE + bytes(2 * PAGE)


class FakeSsh:
    """A VM that has `files`, and gives each command the answer in `answers` whose key the command contains."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.answers: dict[str, str | LabError] = {}
        self.ran: list[str] = []
        self.qmps: list[FakeQmp] = []
        self.closed = 0

    def run(self, command: str, _: Deadline) -> str:
        self.ran.append(command)
        if command.startswith("readout "):
            pairs = [word.split("=") for word in command.split()[1:]]
            return "".join(f"\x1e{name}\n{self.files.get(path, '')}" for name, path in pairs)
        answer = next((answer for key, answer in self.answers.items() if key in command), "")
        if isinstance(answer, LabError):
            raise answer
        return answer

    def open_tcp(self, port: int, _: Deadline) -> FakeChannel:
        channel = FakeChannel()
        if port == guest_config.QMP_PORT:
            channel.far.settimeout(None)
            self.qmps.append(FakeQmp(channel.far, events={"stop": "STOP", "cont": "RESUME"}))
            self.qmps[-1].start()
        return channel

    def close(self) -> None:
        self.closed += 1


class FakeMachine:
    """A machine whose memory says how often a machine of its lab was saved."""

    def __init__(self, lab: "FakeLab", how: str, folder: Path | None = None) -> None:
        self.name = "host 6.1-npt"
        self.how, self.folder = how, folder
        self.lost = self.stopped = False
        self._lab = lab

    def connect(self, _: Deadline) -> None:
        raise AssertionError("log_in is replaced")

    def watch(self) -> None:
        if self.lost:
            raise LostVMError("the host is gone")

    def console(self) -> str:
        return "LAB: host up\r\n"

    def snapshot(self, folder: Path, _: Deadline) -> None:
        self._lab.saved += 1
        folder.mkdir()
        (folder / "ram").write_bytes(memory(self._lab.saved))
        (folder / "state").write_text(f"state {self._lab.saved}")

    def stop(self) -> None:
        self.stopped = True


class FakeLab:
    """The kind of machine that `setup` names; `failures` are the errors of the next restores or starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.machines: list[FakeMachine] = []
        self.failures: list[LabError | None] = []
        self.saved = 0
        self.host = FakeSsh({guest_config.NESTED.console: "LAB: guest up\r\n", "/dev/kmsg": "6,0,0,-;Linux\n"})
        self.host.answers["[ -S "] = "up\n"
        self.host.answers["dmesg | grep -c 'Marking TSC unstable'"] = "0\n"
        self.guest = FakeSsh({"/proc/uptime": UPTIME, "/dev/kmsg": GUEST_LOG})
        self.logins: list[str] = []
        self.closed_to: set[str] = set()  # "host" or "guest": it lets nobody in
        base = folder / "base-initrd"
        base.write_bytes(b"base" * 4096)
        boot = Boot(Path("/k"), None, "", "tcg", "cpu")
        self.setup: Any = SimpleNamespace(
            patience=1.0,
            name="6.1-npt",
            inputs={"kernel": "k"},
            base=base,
            machine=self,
            boot=boot,
            restored=boot,
            keys=None,
        )
        monkeypatch.setattr(rig, "log_in", self._log_in)

    def start(self, *_: object) -> FakeMachine:
        return self._started("start")

    def restore(self, _name: str, _boot: Boot, snapshot: Path, _: Deadline) -> FakeMachine:
        return self._started("restore", snapshot)

    def restore_copy(self, _name: str, _boot: Boot, snapshot: Path, _: Deadline) -> FakeMachine:
        return self._started("restore_copy", snapshot)

    def _started(self, how: str, folder: Path | None = None) -> FakeMachine:
        if folder is not None:
            (folder / "ram").read_bytes()
        failure = self.failures.pop(0) if self.failures else None
        if failure:
            raise failure
        self.machines.append(FakeMachine(self, how, folder))
        return self.machines[-1]

    def _log_in(self, who: str, *_: object, **__: object) -> FakeSsh:
        if who in self.closed_to:
            raise LabError(f"{who} lets nobody in")
        self.logins.append(who)
        return self.host if who == "host" else self.guest
