"""SSH to one VM over a byte stream that the caller has opened: to the host, or through the host to the guest."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import paramiko

from cpuidlab.base.deadline import POLL_SECONDS, Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig.keys import Keys
from cpuidlab.rig.streams import Pty, Stream

# A refused connection is raised, not logged: the lab tries again while a machine is coming up. Avocado reads one line
# of a test's log each 10 ms: with debug lines of SSH it would still read half a second after the test has ended.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").setLevel(logging.WARNING)

# An emulated host may lose its timer's interrupt. It stands still, or runs a spinning vCPU, until a packet comes.
KEEPALIVE_SECONDS = 1


class Ssh:
    """A logged-in SSH connection. Only the pinned host key is accepted."""

    def __init__(self, name: str, stream: Stream, keys: Keys, deadline: Deadline, watch: Callable[[], None]) -> None:
        """Log in over `stream`. `watch` raises LostVMError where the machine behind `stream` is gone.

        Raises LabError where the other side does not answer, shows another host key or does not let us in.
        """
        self.name = name
        self._watch = watch
        self._transport = paramiko.Transport(stream)  # sends nothing yet
        try:
            self._transport.banner_timeout = self._transport.auth_timeout = max(deadline.left(), 0.1)
            options = self._transport.get_security_options()
            options.kex = ("curve25519-sha256@libssh.org",)  # no other exchange: this is the fastest under emulation
            self._transport.start_client(timeout=max(deadline.left(), 0.1))
            if self._transport.get_remote_server_key().get_base64() != keys.pinned:
                raise LabError(f"{name} shows a host key that is not the lab's")
            self._transport.auth_publickey("root", keys.client)
            self._transport.set_keepalive(KEEPALIVE_SECONDS)
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.close()
            watch()
            raise LabError(f"{name} does not let us in over SSH: {error!r}") from error

    def open_tcp(self, port: int, deadline: Deadline) -> paramiko.Channel:
        """Return a byte stream to a port of that machine's own loopback."""
        target = ("127.0.0.1", port)
        try:
            return self._transport.open_channel("direct-tcpip", target, ("127.0.0.1", 0), timeout=deadline.left())
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._watch()
            raise LabError(f"{self.name}: nothing answers at its port {port}: {error!r}") from error

    def open_program(self, command: str, deadline: Deadline, pty: Pty | None = None) -> paramiko.Channel:
        """Return a byte stream to a program's standard input and output; with `pty` both are a pseudo-terminal."""
        # exec_command waits for the server's answer without a time-out, and a machine that hangs never answers
        alarm = threading.Timer(max(deadline.left(), 0.1), self._transport.close)
        alarm.daemon = True
        alarm.start()
        try:
            channel = self._transport.open_session(timeout=max(deadline.left(), 0.1))
            if pty:
                channel.get_pty(pty.term, pty.columns, pty.rows)
            channel.exec_command(os.fsencode(command))  # the user's words may hold any bytes
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._watch()
            raise LabError(f"{self.name}: cannot start '{command}' over SSH: {error!r}") from error
        finally:
            alarm.cancel()
        return channel

    def start(self, command: str, deadline: Deadline) -> "Program":
        """Start `command`, with both of its output streams in one."""
        channel = self.open_program(command, deadline)
        channel.set_combine_stderr(True)
        return Program(self, channel)

    def run(self, command: str, deadline: Deadline, check: bool = True) -> str:
        """Run `command` to its end, and return what it printed on both streams.

        Raises LabError where the command does not end in time, where the connection breaks, and, with `check`,
        where the command fails.
        """
        program = self.start(command, deadline)
        text = program.end(deadline)
        if check and program.status != 0:
            raise LabError(f"{self.name}: '{command}' failed with exit code {program.status}", text)
        return text

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Send no packet by itself meanwhile, for a packet brings the machine an interrupt."""
        self._transport.set_keepalive(0)
        try:
            yield
        finally:
            self._transport.set_keepalive(KEEPALIVE_SECONDS)

    def watch(self, deadline: Deadline) -> None:
        """Raise LabError where the machine or the connection is gone, or a program's deadline has passed."""
        self._watch()
        if not self._transport.is_active():
            raise LabError(f"{self.name}: SSH broke off")
        if deadline.left() == 0:
            raise LabError(f"{self.name}: a program did not end in time")

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class Program:
    """A program started over SSH. Its output is kept: after a time-out the caller may wait for its end again."""

    def __init__(self, ssh: Ssh, channel: paramiko.Channel) -> None:
        self._ssh = ssh
        self._channel = channel
        self._output = bytearray()
        self.status: int | None = None  # the exit code, once the program has ended
        channel.settimeout(POLL_SECONDS)

    def end(self, deadline: Deadline) -> str:
        """Wait for the end of the program, and return all that it has printed.

        Raises LabError, with the output so far, where the program does not end in time.
        """
        channel = self._channel
        while not (channel.eof_received and channel.exit_status_ready() and not channel.recv_ready()):
            data = b""
            with suppress(TimeoutError):
                data = channel.recv(65536)
            self._output += data
            if not data or deadline.left() == 0:
                self._still_alive(deadline)
            if (
                channel.eof_received
            ):  # recv does not wait any more, and a machine that has died never sends the exit code
                channel.status_event.wait(POLL_SECONDS)
        self.status = channel.recv_exit_status()
        with suppress(OSError, EOFError):  # the connection may end at this moment; the program has ended
            channel.close()
        return self._output.decode(errors="replace")

    def _still_alive(self, deadline: Deadline) -> None:
        try:
            self._ssh.watch(deadline)
        except LostVMError:
            raise
        except LabError as error:
            raise LabError(str(error), self._output.decode(errors="replace")) from error
