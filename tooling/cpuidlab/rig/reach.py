"""Programs on a machine that is not the lab's own: this machine, or one behind the user's ssh.

The ssh of the machine is used as it is, so that the user's configuration, agent and known hosts count. A host whose key
is not known is refused. One connection is made, and every program has a channel in it (ControlMaster of ssh_config(5)).
"""

import os
import socket
import subprocess
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cpuidlab.base.command import last_line
from cpuidlab.base.deadline import POLL_SECONDS, Deadline
from cpuidlab.base.die_with_parent import end_with_parent
from cpuidlab.base.errors import LabError, LostVMError, UsageError

LOST = 255  # ssh's own exit code where it has no connection


@dataclass(frozen=True)
class Reach:
    """A way to start programs on a machine. `prefix` is put before a shell command: empty on this machine."""

    name: str
    prefix: tuple[str, ...] = ()

    @classmethod
    def ssh(cls, address: str, control: Path) -> "Reach":
        """Return the way to `ssh://[user@]host[:port]`; `control` is a private folder for the connection's socket."""
        parts = urlsplit(address)
        target = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)
        port = ("-p", str(parts.port)) if parts.port else ()
        options = {
            "BatchMode": "yes",  # never ask: nobody is there to answer
            "StrictHostKeyChecking": "yes",
            "ControlMaster": "auto",
            "ControlPath": str(control / "%C"),
            "ControlPersist": "no",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "ConnectTimeout": "20",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ClearAllForwardings": "yes",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return cls(address, ("ssh", "-T", *words, *port, "--", target))

    def open(self, command: str) -> "FarProgram":
        """Start a shell command there. Raises UsageError where this machine has no ssh."""
        return FarProgram(self.name, self._words(command))

    def _words(self, command: str) -> list[str]:
        return [*self.prefix, command] if self.prefix else ["sh", "-c", command]

    def run(self, command: str, deadline: Deadline, *, given: bytes = b"", check: bool = True) -> str:
        """Run a shell command there to its end and return what it printed, `given` being its standard input.

        Raises LabError where it does not end in time and, with `check`, where it fails; LostVMError where the
        connection is gone.
        """
        return self.read(command, deadline, given=given, check=check).decode(errors="replace")

    def read(self, command: str, deadline: Deadline, *, given: bytes = b"", check: bool = True) -> bytes:
        """Do what `run` does and return bytes.

        Dropbear loses the exit code of a program that ends together with another. Without `check` nobody needs it, as
        long as the connection is there.
        """
        done = self._run(command, deadline, given)
        told = done.stderr.decode(errors="replace")
        if self.prefix and (done.returncode == LOST or done.returncode < 0):
            is_silent = done.returncode == LOST and not told.strip()
            if is_silent and not check and self._run("true", deadline).returncode == 0:
                return done.stdout
            raise LostVMError(f"{self.name}: {_why_lost(told, command, done.returncode)}", told)
        if check and done.returncode != 0:
            text = told or done.stdout.decode(errors="replace")
            raise LabError(f"{self.name}: '{_short(command)}' failed: {last_line(text)}", text)
        return done.stdout

    def _run(self, command: str, deadline: Deadline, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run a shell command there to its end, whatever its exit code is."""
        words = self._words(command)
        try:
            return subprocess.run(
                words, input=given, capture_output=True, timeout=max(deadline.left(), 0.1), check=False,
                preexec_fn=partial(end_with_parent, os.getpid()),
            )  # fmt: skip
        except FileNotFoundError as error:
            raise UsageError(f"{words[0]} is not installed; 'make setup' installs what is needed") from error
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.name}: '{_short(command)}' did not end in time") from error


class FarProgram:
    """A program on another machine: a socket that is its standard input and output, and what it says of errors."""

    def __init__(self, name: str, words: Sequence[str]) -> None:
        """Start it. It ends with the thread that started it; see prctl(2), PR_SET_PDEATHSIG."""
        self.name = name
        self._stderr = os.memfd_create("stderr")
        weakref.finalize(self, os.close, self._stderr)  # what was said is read after the program's end
        self.socket, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    list(words), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._stderr,
                    preexec_fn=partial(end_with_parent, os.getpid()),  # noqa: PLW1509  see VmProcess
                )  # fmt: skip
            except FileNotFoundError as error:
                raise UsageError(f"{words[0]} is not installed; 'make setup' installs what is needed") from error
        self.socket.settimeout(POLL_SECONDS)

    def send(self, data: bytes, deadline: Deadline) -> None:
        """Send all of `data`, however long the way there takes. Raises LostVMError where the program ends."""
        self.socket.settimeout(max(deadline.left(), POLL_SECONDS))
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise self.lost() from error
        finally:
            self.socket.settimeout(POLL_SECONDS)

    def watch(self) -> None:
        """Raise LostVMError where the program has ended."""
        if self._process.poll() is not None:
            raise self.lost()

    def lost(self, seconds: float = 2.0) -> LostVMError:
        """Return the error for a program that has ended, or is about to end, by itself."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        said, code = self.stderr(), self._process.poll()
        if said.strip():
            ended = last_line(said)
        elif code is not None and code < 0:
            ended = f"signal {-code} ended the connection's program here"
        else:
            ended = f"the connection's program ended with {code}"
        return LostVMError(f"{self.name}: {ended}", said)

    def stderr(self) -> str:
        """What the program has written to its standard error so far."""
        return os.pread(self._stderr, os.fstat(self._stderr).st_size, 0).decode(errors="replace")

    def close(self, seconds: float = 10.0) -> None:
        """Close its standard input and wait for its end; end it where it does not end by itself."""
        self.socket.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _why_lost(told: str, command: str, code: int) -> str:
    """Say why ssh ended without an answer; `told` is what it printed, `code` its exit code."""
    if code < 0:
        return f"signal {-code} ended ssh here, during '{_short(command)}'"
    if told.strip():
        return f"ssh says: {last_line(told)}"
    return f"ssh ended without a word: the connection was cut, or a signal ended '{_short(command)}' there"


def _short(command: str) -> str:
    return command if len(command) < 80 else f"{command[:77]}..."
