"""A rig: a nested KVM host with its guest, at one stage of the ladder host_ready, guest_held, guest_ready."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias, TypeVar

from cpuidlab.base.deadline import Deadline, wait_for
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.kvm import kmsg
from cpuidlab.kvm.hook import Hook
from cpuidlab.rig import guest_config
from cpuidlab.rig.console import UP, failed_boot
from cpuidlab.rig.guest_config import Profile
from cpuidlab.rig.host_config import Setup
from cpuidlab.rig.host_vm import TcgMachine
from cpuidlab.rig.qmp import Qmp
from cpuidlab.rig.ssh import Ssh, Stream
from cpuidlab.rig.streams import ChannelLines, as_socket

Stage: TypeAlias = Literal["host_ready", "guest_held", "guest_ready"]
T = TypeVar("T")
KMSG = "/dev/kmsg"
_FILES = {
    "host-log": KMSG,
    "hook-log": guest_config.HOOK_LOG,
    "guest-console": guest_config.CONSOLE,
    "qemu-stderr": guest_config.STDERR,
    "qemu-exit": guest_config.EXIT,
}
# one connection attempt, in seconds: a server that is just coming up may never answer the one it began with
SSH_TRY_SECONDS = 10.0
BOOT_LOOK_SECONDS = 0.5  # between two looks at a booting guest's console: each costs the emulated host a program
REST_SECONDS = (0.5, 5.0)  # how long a machine must rest before it is frozen, and how long that is waited for at most
REST_SHARE = 0.2  # of a processor: what two idle kernels take
MARK = "guest-mark.json"
TELL_SECONDS = 10.0  # kept back to see how things stand with a guest, or a program in it, that does not answer


@dataclass(frozen=True)
class GuestMark:
    """Where a booted guest is: its uptime in seconds, and the last record of its kernel log."""

    uptime: float
    kmsg: int


class Rig:
    """A running host and, from guest_held on, its guest. Connections are made when they are first needed."""

    def __init__(self, setup: Setup, machine: TcgMachine, deadline: Deadline) -> None:
        """Take over a machine that runs; `deadline` holds for everything that is done with the rig."""
        self.setup = setup
        self.machine = machine
        self.deadline = deadline
        self._guest: Ssh | None = None
        self._runs = False
        self.guest_mark = GuestMark(0.0, -1)

    @classmethod
    def cold(cls, setup: Setup, deadline: Deadline) -> "Rig":
        """Boot the host: stage host_ready."""
        rig = cls(setup, TcgMachine(f"host {setup.name}", setup.boot, deadline), deadline)
        try:
            rig.wait("the host to boot", lambda: UP["host"] in rig.machine.console() or None)
            _ = rig.host
        except LabError:
            rig.machine.stop()
            raise
        return rig

    @classmethod
    def thawed(cls, setup: Setup, frozen: Path, deadline: Deadline, refreeze: bool = False) -> "Rig":
        """Start a fresh copy of a frozen rig; with `refreeze` the copy can be frozen again."""
        try:
            machine = TcgMachine(f"host {setup.name}", setup.thaw, deadline, frozen, refreeze)
        except FileNotFoundError as error:
            raise LabError(f"the frozen rig {frozen} is not whole; remove {frozen.parent} and run again") from error
        rig = cls(setup, machine, deadline)
        if (frozen / MARK).exists():
            rig.guest_mark = GuestMark(**json.loads((frozen / MARK).read_text()))
        return rig

    @cached_property
    def host(self) -> Ssh:
        """SSH to the host."""
        return self._ssh("host", lambda: self.machine.connect(self.deadline), self.machine.watch, self.deadline)

    @property
    def guest(self) -> Ssh:
        """SSH to the guest, through the host; the last login, or the first."""
        return self._guest or self.login(self.deadline)

    def login(self, patience: Deadline) -> Ssh:
        """Log in to the guest anew."""
        if self._guest is not None:
            self._guest.close()
            self._guest = None
        host = self.host
        self._guest = self._ssh(
            "guest", lambda: host.open_tcp(guest_config.GUEST_SSH_PORT, patience), self.watch, patience
        )
        return self._guest

    @cached_property
    def qmp(self) -> Qmp:
        """QMP of the guest's QEMU."""
        stream = self.host.open_tcp(guest_config.QMP_PORT, self.deadline)
        return Qmp("guest", as_socket(stream), self.deadline)

    @cached_property
    def hook(self) -> Hook:
        """The library preloaded into the guest's QEMU."""
        stream = self.host.open_tcp(guest_config.HOOK_PORT, self.deadline)
        return Hook(ChannelLines(stream, self.machine.watch))

    def start_guest(self, profile: Profile) -> None:
        """Start the guest's QEMU with its vCPUs held: stage guest_held."""
        self.host.run(profile.command(), self.deadline)
        there = (
            f"[ -S {guest_config.QMP_SOCKET} ] && echo up || [ ! -e {guest_config.EXIT} ] || cat {guest_config.STDERR}"
        )

        def answers() -> str | None:
            return self.host.run(there, self.deadline).strip() or None

        said = self.wait("the guest's QEMU", answers)
        if said != "up":
            raise LostVMError(f"the guest's QEMU ended at once on {self.setup.name}: {said.splitlines()[-1]}", said)
        self.qmp.execute("query-status", self.deadline)

    def run_guest(self) -> None:
        """Let the held vCPUs run until SSH answers: stage guest_ready."""
        self.resume()
        patience = self.deadline.within(self.deadline.left() - TELL_SECONDS)
        try:
            wait_for(f"the guest to boot on {self.setup.name}", self._guest_is_up, patience, self.watch)
            self.login(patience)
        except LabError as error:
            raise type(error)(str(error), f"{self._told()}\n{error.evidence}") from error
        said = self._read(self.guest, {"uptime": "/proc/uptime", "log": KMSG})
        self.guest_mark = GuestMark(float(said["uptime"].split()[0]), kmsg.mark(kmsg.parse(said["log"])))

    def _guest_is_up(self) -> bool | None:
        """Whether the guest's console says that it has booted; LostVMError where it says that it cannot."""
        said = self._read(self.host, {"console": guest_config.CONSOLE})["console"]
        failure = failed_boot(self.setup.name, "guest", said)
        if failure:
            raise failure
        if UP["guest"] in said:
            return True
        self.deadline.within(BOOT_LOOK_SECONDS).sleep()
        return None

    def freeze(self, folder: Path) -> None:
        """Save the whole rig into `folder`, all connections closed and its work done, and let it go on."""
        self.hang_up()
        self.wait("the host's connections to end", lambda: self.machine.is_quiet(self.deadline) or None)
        self._come_to_rest()
        folder.mkdir()
        self.machine.freeze(folder, self.deadline)
        (folder / MARK).write_text(json.dumps(asdict(self.guest_mark)) + "\n")

    def _come_to_rest(self) -> None:
        """What is still to do when a rig is frozen, such as the end of its connections, is done anew by each thaw."""
        least, most = REST_SECONDS
        patience = self.deadline.within(most)
        share = 1.0
        while share > REST_SHARE and patience.left():
            before, began = self.machine.cpu_seconds(), time.monotonic()
            patience.within(least).sleep()
            share = (self.machine.cpu_seconds() - before) / (time.monotonic() - began)

    def files(self) -> dict[str, str]:
        """The host's kernel log, raw, and what the guest's QEMU, its console and the hook have written, by name.

        A file that is not there yet is empty.
        """
        return self._read(self.host, _FILES)

    def wait(self, what: str, look: Callable[[], T | None]) -> T:
        """Wait within the rig's deadline, watching the host's machine."""
        return wait_for(f"{what} on {self.setup.name}", look, self.deadline, self.machine.watch)

    def watch(self) -> None:
        """Raise LostVMError if the host's machine or the guest's QEMU is gone, or has stopped the guest by itself."""
        self.machine.watch()
        if "qmp" in self.__dict__:
            self.qmp.watch()
            moves = [event["event"] for event in self.qmp.events if event["event"] in ("STOP", "RESUME")]
            if self._runs and moves[-1:] == ["STOP"]:
                raise LostVMError(f"the guest's QEMU on {self.setup.name} stopped by itself: KVM internal error")

    def stop(self) -> None:
        """Stop the guest: no vCPU runs, so that their ioctls can be called from outside."""
        self._runs = False
        self.qmp.execute("stop", self.deadline)

    def resume(self) -> None:
        """Let the guest run on."""
        self.qmp.execute("cont", self.deadline)
        self._runs = True

    def hang_up(self) -> None:
        """Close every connection into the rig; the next use opens a new one."""
        if self._guest is not None:
            self._guest.close()
            self._guest = None
        self.__dict__.pop("hook", None)
        for name in ("qmp", "host"):
            connection = self.__dict__.pop(name, None)
            if connection is not None:
                connection.close()

    def close(self) -> None:
        """End the rig and everything in it."""
        try:
            self.hang_up()
        finally:
            self.machine.stop()

    def _read(self, machine: Ssh, files: dict[str, str]) -> dict[str, str]:
        words = " ".join(f"{name}={path}" for name, path in files.items())
        text = machine.run(f"readout {words}", self.deadline)
        return dict(part.split("\n", 1) for part in text.split("\x1e")[1:])

    def _told(self) -> str:
        try:
            files = "\n".join(f"{name}:\n{text[-3000:]}" for name, text in self.files().items())
            return f"{files}\n{self.hook.list()}"
        except LabError as error:
            return f"nothing more can be learned from the host: {error}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ssh(self, name: str, stream: Callable[[], Stream], watch: Callable[[], None], patience: Deadline) -> Ssh:
        last = ""

        def attempt() -> Ssh | None:
            nonlocal last
            try:
                return Ssh(
                    f"{name} {self.setup.name}", stream(), self.setup.keys, patience.within(SSH_TRY_SECONDS), watch
                )
            except LostVMError:
                raise
            except (LabError, OSError) as error:
                last = str(error)
                return None

        try:
            return wait_for(f"SSH to the {name} on {self.setup.name}", attempt, patience, watch)
        except LostVMError:
            raise
        except LabError as error:
            raise LabError(f"{error}; the last attempt: {last}", self.machine.console()[-4000:]) from error
