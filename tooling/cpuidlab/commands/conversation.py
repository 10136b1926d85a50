"""Join a program over SSH to this process's own input and outputs, until the program ends."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, Protocol

from cpuidlab.base.deadline import POLL_SECONDS, Deadline
from cpuidlab.base.errors import LabError

if TYPE_CHECKING:
    from paramiko import Channel

CHUNK = 32768  # bytes
LOOK_SECONDS = 0.2  # between two looks at the machine, and at the window's size
LOST_SECONDS = 2.0  # in which a machine that has ended is seen to have


class Source(Protocol):
    """What the program reads."""

    def fileno(self) -> int:
        """Return a descriptor that select waits for."""

    def read(self) -> bytes | None:
        """Return what there is, which may be nothing; None at the end."""


class Descriptor:
    """A source that passes on whatever a descriptor of this process holds."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._number

    def read(self) -> bytes | None:
        """Return the next bytes; None at the end."""
        return os.read(self._number, CHUNK) or None


class _Outward:
    """The way from a source into the channel. It never blocks: the program may read nothing until we read from it."""

    def __init__(self, channel: Channel, source: Source) -> None:
        self._channel = channel
        self._source: Source | None = source
        self._pending = b""

    @property
    def stalls(self) -> bool:
        """Whether the channel does not take now what was read."""
        return bool(self._pending)

    @property
    def waits_for(self) -> Source | None:
        """What is to be read next, once the channel has taken all that was read before."""
        return None if self._pending else self._source

    def read(self) -> None:
        """Read from the source, which is ready."""
        data = self._source.read() if self._source else None
        if data is None:
            self._end()
        else:
            self._pending = data

    def send(self) -> None:
        """Send as much as the channel takes at once."""
        try:
            while self._pending and self._channel.send_ready():
                self._pending = self._pending[self._channel.send(self._pending) :]
        except OSError:  # the program has ended
            self._end()

    def _end(self) -> None:
        self._source, self._pending = None, b""
        with suppress(OSError, EOFError):
            self._channel.shutdown_write()


def converse(channel: Channel, source: Source, stdout: int, stderr: int, look: Callable[[], None]) -> int:
    """Pass bytes on until the program at the far end of `channel` has ended; return its exit code.

    `look` is called a few times a second and raises LostVMError when the machine is gone. Raises LabError where the
    connection ends before the program's exit code has come, OSError where `stdout` or `stderr` takes no more.
    """
    outward = _Outward(channel, source)
    next_look = 0.0
    while not _has_ended(channel):
        if time.monotonic() >= next_look:
            look()
            next_look = time.monotonic() + LOOK_SECONDS
        if _source_is_ready(channel, outward):
            outward.read()
        outward.send()
        _pass_output(channel, stdout, stderr)
    code = channel.recv_exit_status()
    if code < 0:
        _raise_lost(look)
    return code


def _has_ended(channel: Channel) -> bool:
    if not (channel.closed or (channel.eof_received and channel.exit_status_ready())):
        return False
    # looked at last: output that comes before the end may arrive between two looks
    return not (channel.recv_ready() or channel.recv_stderr_ready())


def _source_is_ready(channel: Channel, outward: _Outward) -> bool:
    """Wait a little for output or input; say whether there is input."""
    source = outward.waits_for
    waiting: list[Source | Channel] = [source] if source else []
    if not channel.eof_received:  # from then on a channel's descriptor is always ready
        waiting.append(channel)
    quick = outward.stalls or channel.eof_received
    ready, _, _ = select.select(waiting, [], [], POLL_SECONDS if quick else LOOK_SECONDS)
    return source is not None and source in ready


def _pass_output(channel: Channel, stdout: int, stderr: int) -> None:
    if channel.recv_ready():
        _write(stdout, channel.recv(CHUNK))
    if channel.recv_stderr_ready():
        _write(stderr, channel.recv_stderr(CHUNK))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # whoever gave us the descriptor has set it so
            select.select([], [descriptor], [])


def _raise_lost(look: Callable[[], None]) -> NoReturn:
    """Raise the error that says why the connection ended: the machine's end, where that is seen in time."""
    patience = Deadline.after(LOST_SECONDS)
    while patience.left():
        look()
        patience.pause(POLL_SECONDS)
    raise LabError("the connection ended before the program's exit code had come")
