"""A real machine as a host: this machine, or one behind the user's ssh. Only its guest is started by the lab.

Everything of a test lies in one private folder there (see `supervisor`), and nothing is installed.
"""

import shlex
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UnsupportedError
from cpuidlab.rig.guest_config import GUEST_SSH_PORT, HOOK_PORT, OLD_RNG, QMP_PORT, RNG, Layout
from cpuidlab.rig.machine_facts import ALLOW_LOG, LOG_READERS, MachineFacts, ask
from cpuidlab.rig.reach import FarProgram, Reach
from cpuidlab.rig.supervisor import Supervisor

KMSG = "/dev/kmsg"
# What a nested host listens to as a port is a unix socket in the private folder here.
_SOCKETS = {GUEST_SSH_PORT: "guest.sock", QMP_PORT: "qmp.sock", HOOK_PORT: "hook.sock"}


@dataclass(frozen=True)
class Cargo:
    """What is brought to the machine for each test: files of this machine. The initramfs is packed by gzip."""

    supervisor: Path
    readout: Path
    hook: Path
    kernel: Path
    initrd: Path


class RealHost:
    """A machine with the kernel under test, from the moment it is this job's turn until `stop`."""

    def __init__(self, reach: Reach, facts: MachineFacts, supervisor: Supervisor) -> None:
        """Take over a machine; `start` makes one."""
        self.name = facts.name
        self.facts = facts
        self.layout = Layout(
            supervisor.folder,
            kernel=supervisor.path("vmlinuz"),
            initrd=supervisor.path("initrd"),
            hook=supervisor.path("cpuidhook.so"),
            qemu=facts.qemu,
            rng=OLD_RNG if facts.qemu_major and facts.qemu_major < 6 else RNG,
        )
        self._reach = reach
        self._supervisor = supervisor
        self._programs: list[FarProgram] = []
        self._settings: dict[str, str] = {}
        self._log_reader: str | None = None

    @classmethod
    def start(cls, reach: Reach, cargo: Cargo, turn: Deadline) -> Self:
        """Wait for this job's turn on the machine until `turn`, and bring the small programs there.

        Raises UnsupportedError where the machine lacks what is needed, LabError where it does not answer.
        """
        facts = ask(reach, turn)
        host = cls(reach, facts, Supervisor(reach, cargo.supervisor, turn))
        try:
            host._bring(cargo, turn)
        except (LabError, UnsupportedError):
            host.stop()
            raise
        return host

    def _bring(self, cargo: Cargo, deadline: Deadline) -> None:
        self._supervisor.put("readout", cargo.readout.read_bytes(), deadline, 0o700)
        self._supervisor.put("cpuidhook.so", cargo.hook.read_bytes(), deadline, 0o700)
        self._check_hook(deadline)
        self._supervisor.put("vmlinuz", cargo.kernel.read_bytes(), deadline)
        self._supervisor.put("initrd", cargo.initrd.read_bytes(), deadline, unpack="gunzip -c")
        self._log_reader = next((way for way in LOG_READERS if self._can_read_log(way, deadline)), None)

    def _check_hook(self, deadline: Deadline) -> None:
        """Raise UnsupportedError where the machine's C library cannot load the hook into QEMU.

        Another program does not tell: before glibc 2.34 a program has threads only if it is linked with libpthread.
        """
        hook, qemu = shlex.quote(self.layout.hook), shlex.quote(self.layout.qemu)
        said = self._reach.run(f"LD_PRELOAD={hook} {qemu} --version 2>&1 >/dev/null", deadline, check=False).strip()
        if said:
            raise UnsupportedError(f"{self.name}: the hook cannot be loaded there: {said.splitlines()[0]}")

    def _can_read_log(self, way: str, deadline: Deadline) -> bool:
        return bool(self._reach.run(f"{self._readout(way)} log={KMSG} | head -n 3 | tail -n +2", deadline, check=False))

    def _readout(self, way: str) -> str:
        return f"{way}{shlex.quote(self._supervisor.path('readout'))}"

    @property
    def log_refused(self) -> str:
        """Why the kernel log cannot be read, and what would allow it; empty where it can be read."""
        if self._log_reader is not None:
            return ""
        return f"{self.facts.user} may not read the kernel log of {self.name}; to allow it: {ALLOW_LOG}"

    def run(self, command: str, deadline: Deadline, check: bool = True) -> str:
        """Run a shell command on the machine; see `Reach.run`."""
        if command.startswith("readout "):  # see `readout.read_files`
            return self._read(command.removeprefix("readout "), deadline)
        return self._reach.run(command, deadline, check=check)

    def _read(self, words: str, deadline: Deadline) -> str:
        """Read files, the kernel log among them where it may be read, with no more right than it takes."""
        log = f"host-log={KMSG}"
        way = self._log_reader
        if log not in words.split():
            return self._reach.run(f"{self._readout('')} {words}", deadline)
        rest = " ".join(word for word in words.split() if word != log)
        text = "\x1ehost-log\n" if way is None else self._reach.run(f"{self._readout(way)} {log}", deadline)
        return text + self._reach.run(f"{self._readout('')} {rest}", deadline)

    def open_tcp(self, port: int, deadline: Deadline) -> socket.socket:
        """Return a byte stream to what listens for the lab: the guest's SSH, QMP or the hook."""
        program = self._supervisor.connect(_SOCKETS[port])
        self._programs.append(program)
        return program.socket

    def start_script(self, script: str, deadline: Deadline) -> None:
        """Run a shell script in the private network; it ends with the folder."""
        self._supervisor.start(script, deadline)

    def write_setting(self, path: str, value: str, deadline: Deadline) -> None:
        """Write a setting of the kernel, as root; it is put back at the end, whatever happens.

        Raises UnsupportedError where the user has no right to it.
        """
        if not self.facts.root:
            why = f"only root may write {path}, and {self.facts.user} has no sudo without a password"
            raise UnsupportedError(f"{self.name}: {why}")
        if path not in self._settings:
            self._settings[path] = self._reach.run(f"cat {shlex.quote(path)}", deadline).strip()
            undo = "".join(f"{self._write_command(name, old)}\n" for name, old in self._settings.items())
            self._supervisor.put("undo", undo.encode(), deadline)
        self._reach.run(self._write_command(path, value), deadline)

    def _write_command(self, path: str, value: str) -> str:
        write = f"echo {shlex.quote(value)} >{shlex.quote(path)}"
        return f"{self.facts.sudo}sh -c {shlex.quote(write)}"

    def threads(self, deadline: Deadline) -> set[int]:
        """Return the numbers of all threads of the test's processes there, by the machine's own count."""
        mine = shlex.quote(self.layout.folder)
        command = f"for p in /proc/[0-9]*; do grep -q {mine} $p/cmdline && ls $p/task; done 2>/dev/null"
        return {int(word) for word in self._reach.run(command, deadline, check=False).split()}

    def settings_text(self, deadline: Deadline) -> str:
        """Say, after `stop`, which settings were changed and that they are back.

        Raises LabError, with the command that mends it, where a setting is not back.
        """
        lines = []
        for path, old in self._settings.items():
            now = self._reach.run(f"cat {shlex.quote(path)}", deadline).strip()
            if now != old:
                mend = self._write_command(path, old)
                raise LabError(f"{self.name}: {path} was {old} and is {now} now; put it back: {mend}")
            lines.append(f"{path}: it was {old}, a test changed it, and it is {now} again\n")
        return "".join(lines)

    def watch(self) -> None:
        """Raise LostVMError where the connection or the supervisor is gone."""
        self._supervisor.watch()

    def console(self) -> str:
        """Return what the lab knows of the machine; its console is not the lab's."""
        return "".join(f"{name}: {getattr(self.facts, name)}\n" for name in self.facts.__dataclass_fields__)

    def close(self) -> None:
        """Close the byte streams; the machine goes on."""
        for program in self._programs:
            program.close(0)
        self._programs.clear()

    def stop(self) -> None:
        """End everything that the lab has started there, and put the settings back."""
        self.close()
        self._supervisor.close()
