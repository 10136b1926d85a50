"""An SSH channel as a socket, for QMP, and as lines, for the hook."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from cpuidlab.base.deadline import POLL_SECONDS, Deadline
from cpuidlab.base.errors import ClosedError, LabError

if TYPE_CHECKING:
    from paramiko import Channel

SEND_SECONDS = 60.0

Stream: TypeAlias = "socket.socket | Channel"


@dataclass(frozen=True)
class Pty:
    """A pseudo-terminal for a program: the terminal's type, as in $TERM, and its size in characters."""

    term: str
    columns: int
    rows: int


def as_socket(channel: Stream) -> socket.socket:
    """Return a socket whose other end is `channel`: asyncio reads sockets only. When one closes, the other closes."""
    if isinstance(channel, socket.socket):
        return channel
    ours, theirs = socket.socketpair()

    def inward() -> None:
        with theirs, suppress(OSError):
            with suppress(OSError, EOFError):
                while data := channel.recv(65536):
                    theirs.sendall(data)
            theirs.shutdown(socket.SHUT_RDWR)  # close() alone does not end the other pump's recv

    def outward() -> None:
        with suppress(OSError, EOFError):
            while data := theirs.recv(65536):
                channel.sendall(data)
        with suppress(OSError, EOFError):
            channel.close()

    for pump in (inward, outward):
        threading.Thread(target=pump, daemon=True).start()
    return ours


class ChannelLines:
    """Lines over an SSH channel or a socket, for the hook's protocol."""

    def __init__(self, channel: Stream, watch: Callable[[], None]) -> None:
        """`watch` raises LostVMError when the machine behind the channel is gone."""
        self._channel = channel
        self._watch = watch
        self._pending = b""
        channel.settimeout(POLL_SECONDS)

    def send(self, data: bytes) -> None:
        """Send all of `data`. Raises LabError where the other side is gone, or takes nothing for SEND_SECONDS."""
        deadline = Deadline.after(SEND_SECONDS)
        while data:
            try:
                data = data[self._channel.send(data) :]
            except TimeoutError as error:  # an SSH server takes some kilobytes, and more when its program has read them
                self._watch()
                if deadline.left() == 0:
                    raise LabError("the other side takes nothing more") from error
            except OSError as error:
                self._watch()
                raise LabError(f"the other side's connection is gone: {error!r}") from error

    def recv_line(self, deadline: float) -> str:
        """Return the next line without its end.

        Raises ClosedError where the connection ends, LabError at `deadline` (of time.monotonic).
        """
        while b"\n" not in self._pending:
            try:
                data = self._channel.recv(65536)
            except TimeoutError:
                self._watch()
                if time.monotonic() >= deadline:
                    raise LabError("the other side did not answer in time") from None
                continue
            if not data:
                self._watch()
                raise ClosedError("the other side closed its connection")
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        return line.decode(errors="replace")
