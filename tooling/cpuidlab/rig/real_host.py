"""A real machine as a host: this machine, or one behind the user's ssh. Only its guest is started by the lab.

What all tests of a job need lies in the job's folder there, everything of one test in a folder of its own (see
`supervisor`), and nothing is installed.
"""

import shlex
import socket
from typing import Self

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UnsupportedError
from cpuidlab.rig.guest_config import GUEST_SSH_PORT, HOOK_PORT, OLD_RNG, QMP_PORT, RNG, Layout
from cpuidlab.rig.job_folder import HOOK, INITRD, KERNEL, READOUT, check_boot
from cpuidlab.rig.machine_facts import ALLOW_LOG, LOG_READERS, MachineFacts, ask
from cpuidlab.rig.reach import FarProgram, Reach
from cpuidlab.rig.settings import Setting, Settings
from cpuidlab.rig.supervisor import LOCK, PROGRAM, Supervisor

KMSG = "/dev/kmsg"
# What a nested host listens to as a port is a unix socket in the private folder here.
_SOCKETS = {GUEST_SSH_PORT: "guest.sock", QMP_PORT: "qmp.sock", HOOK_PORT: "hook.sock"}


class RealHost:
    """A machine with the kernel under test, from the moment it is this job's turn until `stop`."""

    def __init__(self, reach: Reach, facts: MachineFacts, supervisor: Supervisor, job_folder: str) -> None:
        """Take over a machine; `start` makes one. `supervisor` is that of a test in the job that has `job_folder`."""
        self.name = facts.name
        self.facts = facts
        self.job_folder = job_folder
        self.layout = Layout(
            supervisor.folder,
            kernel=f"{job_folder}/{KERNEL}",
            initrd=f"{job_folder}/{INITRD}",
            hook=f"{job_folder}/{HOOK}",
            qemu=facts.qemu,
            rng=OLD_RNG if facts.qemu_major and facts.qemu_major < 6 else RNG,
        )
        self.settings = Settings(reach, supervisor)
        self._reach = reach
        self._supervisor = supervisor
        self._programs: list[FarProgram] = []
        self._log_reader: str | None = None

    @classmethod
    def start(cls, reach: Reach, job_folder: str, turn: Deadline) -> Self:
        """Wait for this job's turn on the machine until `turn`.

        Raises UnsupportedError where the machine lacks what is needed, LabError where it does not answer.
        """
        supervisor = Supervisor(reach, f"{job_folder}/{PROGRAM}", turn, LOCK)
        try:
            host = cls(reach, ask(reach, turn), supervisor, job_folder)
            host._log_reader = next((way for way in LOG_READERS if host._can_read_log(way, turn)), None)
        except BaseException:
            supervisor.close()
            raise
        return host

    def ask_again(self, deadline: Deadline) -> None:
        """Ask for the facts of the machine anew."""
        self.facts = ask(self._reach, deadline)

    def _can_read_log(self, way: str, deadline: Deadline) -> bool:
        return bool(self._reach.run(f"{self._readout(way)} log={KMSG} | head -n 3 | tail -n +2", deadline, check=False))

    def _readout(self, way: str) -> str:
        return f"{way}{shlex.quote(f'{self.job_folder}/{READOUT}')}"

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
        """Read files, the kernel log among them where it may be read, with no more right than it takes.

        The first that a test sees of a panic may be that its files are gone: the machine has booted since.
        """
        try:
            return self._read_there(words, deadline)
        except LabError:
            check_boot(self._reach, self.job_folder, deadline)
            raise

    def _read_there(self, words: str, deadline: Deadline) -> str:
        log = f"host-log={KMSG}"
        way = self._log_reader
        if log not in words.split():
            return self._reach.run(f"{self._readout('')} {words}", deadline)
        rest = " ".join(word for word in words.split() if word != log)
        text = "\x1ehost-log\n" if way is None else self._reach.run(f"{self._readout(way)} {log}", deadline)
        return text + self._reach.run(f"{self._readout('')} {rest}", deadline)

    def open_program(self, command: str, _: Deadline) -> socket.socket:
        """Start a program of the job's folder, and return a byte stream to it.

        The test's folder is its argument, by which `threads` knows it.
        """
        program = self._reach.open(f"{shlex.quote(f'{self.job_folder}/{command}')} {shlex.quote(self.layout.folder)}")
        self._programs.append(program)
        return program.socket

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
        if not self.settings.knows(path):
            look = f"cat {shlex.quote(path)}"
            old = self._reach.run(look, deadline).strip()
            told = f"{path}: it was {old}, a test changed it, and it is {old} again"
            self.settings.will_change(Setting(path, old, look, self._write_command(path, old), told), deadline)
        self._reach.run(self._write_command(path, value), deadline)

    def as_root(self, script: str) -> str:
        """Return the command that runs a shell script as root, for a user who may (see `MachineFacts.root`)."""
        return f"{self.facts.sudo}sh -c {shlex.quote(script)}"

    def _write_command(self, path: str, value: str) -> str:
        return self.as_root(f"echo {shlex.quote(value)} >{shlex.quote(path)}")

    def threads(self, deadline: Deadline) -> set[int]:
        """Return the numbers of all threads of the test's processes there, by the machine's own count."""
        mine = shlex.quote(self.layout.folder)
        command = f"for p in /proc/[0-9]*; do grep -q {mine} $p/cmdline && ls $p/task; done 2>/dev/null"
        return {int(word) for word in self._reach.run(command, deadline, check=False).split()}

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
