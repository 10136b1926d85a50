"""A rig: a host with its guest, at one of three stages. `boot.py` brings a rig from one stage to the next."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cpuidlab.base.deadline import Deadline, wait_for
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.kvm.hook import Hook
from cpuidlab.kvm.kmsg import Record
from cpuidlab.rig import guest_config
from cpuidlab.rig.guest_config import Layout, Profile
from cpuidlab.rig.host_machine import HostSetup, HostShell, Machine
from cpuidlab.rig.login import log_in
from cpuidlab.rig.panic import guest_panic
from cpuidlab.rig.readout import read_files
from cpuidlab.rig.streams import ChannelLines, Stream, as_socket

if TYPE_CHECKING:
    from cpuidlab.rig.qmp import Qmp
    from cpuidlab.rig.ssh import Ssh

T = TypeVar("T")
KMSG = "/dev/kmsg"
PANIC_LOOK_SECONDS = 2.0  # between looks at a running guest's console: each starts a program on the emulated host
TELL_SECONDS = 10.0  # kept back to see how things stand with a guest, or a program in it, that does not answer


class Stage(StrEnum):
    """How far a rig is."""

    HOST_READY = "host_ready"  # SSH to the host works
    GUEST_HELD = "guest_held"  # the guest's QEMU has made its vCPUs, and none has run
    GUEST_READY = "guest_ready"  # SSH to the guest works


class GuestStart(StrEnum):
    """How the guest of a rig came to life."""

    BOOTED = "booted"
    RESTORED = "restored"  # from a guest that was saved before, alone or together with its host


@dataclass(frozen=True)
class RigFacts:
    """What the results tell of a rig once it is closed.

    `boot` and `restore` are how many seconds both took in this job, 0 where that was not measured, `trouble` why the
    guest could not be restored. `settings` are sentences: what the test has changed on a real machine, and that it is
    back.
    """

    guest: GuestStart
    boot: float = 0.0
    restore: float = 0.0
    trouble: str = ""
    settings: tuple[str, ...] = ()


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


class Rig(ABC):
    """A running host and, from GUEST_HELD on, its guest. A connection is opened when it is first needed."""

    def __init__(self, setup: HostSetup, machine: Machine, layout: Layout, deadline: Deadline) -> None:
        """Take over a machine that runs, with a guest's files where `layout` says.

        `deadline` is for everything that is done with the rig.
        """
        self.setup = setup
        self.machine = machine
        self.layout = layout
        self.deadline = deadline
        self.guest_mark = NO_MARK
        self.guest_start = GuestStart.BOOTED
        self.profile: Profile | None = None  # of the guest, once there is one
        self._vcpus = Vcpus.STOPPED
        self._next_panic_look = 0.0  # by time.monotonic()
        self._guest: Ssh | None = None
        self._qmp: Qmp | None = None
        self._hook: Hook | None = None

    user = "root"  # whose programs run on the host
    log_refused = ""  # why the host's kernel log cannot be read
    no_linux = ""  # why no Linux guest boots on the host, whose KVM runs vCPUs all the same

    def facts(self) -> RigFacts:
        """Say, after `close`, what the results tell of the rig. LabError where a changed setting is not back."""
        return RigFacts(self.guest_start)

    def foreign_line(self, log: Sequence[Record]) -> str | None:
        """Return a line of the log that another VM on the host caused; nobody else is on a host of the lab's own."""
        return None

    @property
    @abstractmethod
    def host(self) -> HostShell:
        """Programs on the host, and what listens there for the lab."""

    @abstractmethod
    def launch(self, profile: Profile) -> None:
        """Start the guest's QEMU on the host."""

    @abstractmethod
    def write_setting(self, path: str, value: str) -> None:
        """Write a setting of the host's kernel, such as a module's parameter below /sys."""

    @property
    def guest(self) -> Ssh:
        """SSH to the guest, through the host: the last login, or the first, which leaves time to see why it fails."""
        return self._guest or self.login(self.deadline.before(TELL_SECONDS))

    def login(self, patience: Deadline) -> Ssh:
        """Log in to the guest anew."""
        if self._guest is not None:
            self._guest.close()
            self._guest = None
        connect = partial(self.host.open_tcp, guest_config.GUEST_SSH_PORT, patience)
        self._guest = self.log_in("guest", connect, patience, self.watch)
        return self._guest

    @property
    def qmp(self) -> Qmp:
        """QMP of the guest's QEMU."""
        if self._qmp is None:
            from cpuidlab.rig.qmp import Qmp  # noqa: PLC0415  see login.py

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

    def open_barevm(self) -> ChannelLines:
        """Start the program on the host that calls KVM without QEMU (guests/host/barevm.c)."""
        return ChannelLines(self.host.open_program("barevm", self.deadline), self.machine.watch)

    def files(self) -> dict[str, str]:
        """Return the host's raw kernel log, and what guest console, guest's QEMU and hook have written, by name.

        A file that is not there yet is empty.
        """
        paths = {
            "host-log": KMSG,
            "hook-log": self.layout.hook_log,
            "guest-console": self.layout.console,
            "qemu-stderr": self.layout.stderr,
            "qemu-exit": self.layout.exit,
        }
        return read_files(self.host, paths, self.deadline)

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
        return guest_panic(self.host, self.layout.console, self.deadline)

    @property
    def qmp_transcript(self) -> Sequence[str]:
        """All that went over QMP; empty where QEMU ended before QMP was up."""
        return self._qmp.transcript if self._qmp else ()

    def seen(self, event: str) -> dict[str, Any] | None:
        """Return the first event of QMP of that name; None where there was none, or QEMU ended before QMP was up."""
        return self._qmp.seen(event) if self._qmp else None

    def stop(self) -> None:
        """Stop the guest: no vCPU runs, so other threads may make their ioctls."""
        self._vcpus = Vcpus.STOPPED
        self.qmp.execute("stop", self.deadline)

    def resume(self) -> None:
        """Let the guest run on."""
        self.qmp.execute("cont", self.deadline)
        self._vcpus = Vcpus.RUNNING
        self._next_panic_look = time.monotonic() + PANIC_LOOK_SECONDS

    def hang_up(self) -> None:
        """Close every connection into the rig. The next use opens a new one."""
        for connection in (self._guest, self._qmp):
            if connection is not None:
                connection.close()
        self._guest = self._qmp = self._hook = None

    def close(self) -> None:
        """End the rig and everything in it."""
        try:
            self.hang_up()
        finally:
            self.machine.stop()

    def log_in(self, who: str, connect: Callable[[], Stream], patience: Deadline, watch: Callable[[], None]) -> Ssh:
        """Log in to the "host" or "guest". Raises LabError, with the end of the host's console, where that fails."""
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
