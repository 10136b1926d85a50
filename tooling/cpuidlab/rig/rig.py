"""A rig: a host with its guest, at one of three stages. `boot.py` brings a rig from one stage to the next."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum, StrEnum, auto
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from cpuidlab.base.deadline import Deadline, wait_for
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.kvm.hook import Hook
from cpuidlab.rig import guest_config
from cpuidlab.rig.host_config import Setup
from cpuidlab.rig.host_machine import HostMachine
from cpuidlab.rig.login import log_in
from cpuidlab.rig.panic import guest_panic
from cpuidlab.rig.qmp import Qmp
from cpuidlab.rig.readout import read_files
from cpuidlab.rig.ssh import Ssh, Stream
from cpuidlab.rig.streams import ChannelLines, as_socket

T = TypeVar("T")
KMSG = "/dev/kmsg"
_FILES = {
    "host-log": KMSG,
    "hook-log": guest_config.HOOK_LOG,
    "guest-console": guest_config.CONSOLE,
    "qemu-stderr": guest_config.STDERR,
    "qemu-exit": guest_config.EXIT,
}
MARK = "guest-mark.json"  # in a snapshot
PANIC_LOOK_SECONDS = 2.0  # between looks at a running guest's console: each starts a program on the emulated host
TELL_SECONDS = 10.0  # kept back to see how things stand with a guest, or a program in it, that does not answer


class Stage(StrEnum):
    """How far a rig is."""

    HOST_READY = "host_ready"  # SSH to the host works
    GUEST_HELD = "guest_held"  # the guest's QEMU has made its vCPUs, and none has run
    GUEST_READY = "guest_ready"  # SSH to the guest works


class Vcpus(Enum):
    """What the vCPUs of the guest do, by our own last command."""

    STOPPED = auto()  # there may be none yet
    RUNNING = auto()


@dataclass(frozen=True)
class GuestMark:
    """Where a booted guest is: its uptime in seconds, and the last record of its kernel log."""

    uptime: float
    kmsg: int


NO_MARK = GuestMark(0.0, -1)


class Rig:
    """A running host and, from GUEST_HELD on, its guest. A connection is opened when it is first needed."""

    def __init__(self, setup: Setup, machine: HostMachine, deadline: Deadline) -> None:
        """Take over a machine that runs. `deadline` is for everything that is done with the rig."""
        self.setup = setup
        self.machine = machine
        self.deadline = deadline
        self.guest_mark = NO_MARK
        self._vcpus = Vcpus.STOPPED
        self._next_panic_look = 0.0  # by time.monotonic()
        self._host: Ssh | None = None
        self._guest: Ssh | None = None
        self._qmp: Qmp | None = None
        self._hook: Hook | None = None

    @classmethod
    def start(cls, setup: Setup, deadline: Deadline) -> Self:
        """Start the host cold. The rig is at no stage yet: its host boots."""
        return cls(setup, setup.machine.start(f"host {setup.name}", setup.boot, deadline), deadline)

    @classmethod
    def restore(cls, setup: Setup, snapshot: Path, deadline: Deadline) -> Self:
        """Start a copy of a saved rig. The copy cannot be saved again."""
        return cls._restored(setup, setup.machine.restore, snapshot, deadline)

    @classmethod
    def restore_copy(cls, setup: Setup, snapshot: Path, deadline: Deadline) -> Self:
        """Start a copy of a saved rig that can be saved again, for the next stage."""
        return cls._restored(setup, setup.machine.restore_copy, snapshot, deadline)

    @classmethod
    def _restored(cls, setup: Setup, restore: Callable[..., HostMachine], snapshot: Path, deadline: Deadline) -> Self:
        try:
            machine = restore(f"host {setup.name}", setup.restored, snapshot, deadline)
        except FileNotFoundError as error:
            raise LabError(f"the snapshot {snapshot} is not whole; remove {snapshot.parent} and run again") from error
        rig = cls(setup, machine, deadline)
        if (snapshot / MARK).exists():
            rig.guest_mark = GuestMark(**json.loads((snapshot / MARK).read_text()))
        return rig

    @property
    def host(self) -> Ssh:
        """SSH to the host."""
        if self._host is None:
            connect = partial(self.machine.connect, self.deadline)
            self._host = self._log_in("host", connect, self.deadline, self.machine.watch)
        return self._host

    @property
    def guest(self) -> Ssh:
        """SSH to the guest, through the host: the last login, or the first."""
        return self._guest or self.login(self.deadline)

    def login(self, patience: Deadline) -> Ssh:
        """Log in to the guest anew."""
        if self._guest is not None:
            self._guest.close()
            self._guest = None
        connect = partial(self.host.open_tcp, guest_config.GUEST_SSH_PORT, patience)
        self._guest = self._log_in("guest", connect, patience, self.watch)
        return self._guest

    @property
    def qmp(self) -> Qmp:
        """QMP of the guest's QEMU."""
        if self._qmp is None:
            stream = self.host.open_tcp(guest_config.QMP_PORT, self.deadline)
            self._qmp = Qmp("guest", as_socket(stream), self.deadline)
        return self._qmp

    @property
    def hook(self) -> Hook:
        """The library that is preloaded into the guest's QEMU."""
        if self._hook is None:
            stream = self.host.open_tcp(guest_config.HOOK_PORT, self.deadline)
            self._hook = Hook(ChannelLines(stream, self.machine.watch))
        return self._hook

    def files(self) -> dict[str, str]:
        """Return the host's raw kernel log, and what guest console, guest's QEMU and hook have written, by name.

        A file that is not there yet is empty.
        """
        return read_files(self.host, _FILES, self.deadline)

    def wait(self, what: str, look: Callable[[], T | None]) -> T:
        """Wait for `look` within the rig's deadline, and watch the host's machine meanwhile."""
        return wait_for(f"{what} on {self.setup.name}", look, self.deadline, self.machine.watch)

    def watch(self) -> None:
        """Raise LostVMError where nobody need wait for the guest any longer.

        The machine or the guest's QEMU has ended, QEMU has stopped the guest by itself, or the guest's kernel panicked.
        """
        self.machine.watch()
        if self._qmp is None:
            return
        self._qmp.watch()
        moves = [event["event"] for event in self._qmp.events if event["event"] in ("STOP", "RESUME")]
        if self._vcpus is Vcpus.RUNNING and moves[-1:] == ["STOP"]:
            raise LostVMError(f"the guest's QEMU on {self.setup.name} stopped by itself: KVM internal error")
        if self._vcpus is Vcpus.RUNNING and time.monotonic() >= self._next_panic_look:
            panic = self.panic()
            self._next_panic_look = time.monotonic() + PANIC_LOOK_SECONDS
            if panic:
                raise LostVMError(f"{self.setup.name}: the guest's console says: {panic}")

    def panic(self) -> str | None:
        """Return the line of the guest's console that tells of a panic; None where none is known of."""
        return guest_panic(self.host, self.deadline)

    def stop(self) -> None:
        """Stop the guest: no vCPU runs, so other threads may make their ioctls."""
        self._vcpus = Vcpus.STOPPED
        self.qmp.execute("stop", self.deadline)

    def resume(self) -> None:
        """Let the guest run on."""
        self.qmp.execute("cont", self.deadline)
        self._vcpus = Vcpus.RUNNING
        self._next_panic_look = time.monotonic() + PANIC_LOOK_SECONDS

    def snapshot(self, folder: Path) -> None:
        """Save the rig into the new folder `folder`, all connections closed, and let the rig go on."""
        self.hang_up()
        self.machine.snapshot(folder, self.deadline)
        (folder / MARK).write_text(json.dumps(asdict(self.guest_mark)) + "\n")

    def hang_up(self) -> None:
        """Close every connection into the rig. The next use opens a new one."""
        for connection in (self._guest, self._qmp, self._host):
            if connection is not None:
                connection.close()
        self._guest = self._qmp = self._host = self._hook = None

    def close(self) -> None:
        """End the rig and everything in it."""
        try:
            self.hang_up()
        finally:
            self.machine.stop()

    def _log_in(self, who: str, connect: Callable[[], Stream], patience: Deadline, watch: Callable[[], None]) -> Ssh:
        try:
            return log_in(who, self.setup.name, connect, self.setup.keys, patience=patience, watch=watch)
        except LostVMError:
            raise
        except LabError as error:
            raise LabError(str(error), self.machine.console()[-4000:]) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
