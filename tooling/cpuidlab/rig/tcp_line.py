"""TCP connections into a host without a network card, over its serial line; guests/host/tcpline.c is the other end.

A thread moves the bytes; a caller gets an ordinary socket.
"""

import fcntl
import selectors
import socket
import termios
import threading
from contextlib import suppress
from functools import partial

from cpuidlab.base.errors import LabError
from cpuidlab.rig.line_connection import DATA, HEAD, MAGIC, LineConnection

_NUMBERS = range(256)


class TcpLine:
    """Connections over one serial line, whose end on this side is a socket."""

    def __init__(self, line: socket.socket) -> None:
        """Take over `line`, on which nothing has been sent yet, or whose last connection is closed on both sides."""
        self._line = line
        self._lock = threading.Lock()  # of everything below, which two threads use
        self._connections: dict[int, LineConnection] = {}
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._trouble = ""
        self._bell, self._ringer = socket.socketpair()
        for end in (line, self._bell, self._ringer):
            end.setblocking(False)
        threading.Thread(target=self._carry, daemon=True).start()

    def connect(self) -> socket.socket:
        """Return a new connection, which ends at once where nothing listens there. Raises LabError on a broken line."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with self._lock:
            number = next((number for number in _NUMBERS if number not in self._connections), None)
            if number is None or self._trouble:
                ours.close()
                theirs.close()
                raise LabError(f"no connection over the serial line: {self._trouble or 'all numbers are taken'}")
            self._connections[number] = LineConnection(ours, partial(self._send, number))
        with suppress(OSError):  # a full bell rings already
            self._ringer.send(b"!")
        return theirs

    @property
    def is_quiet(self) -> bool:
        """Tell whether no connection is open on either side, and nothing is on its way."""
        with self._lock:
            if self._connections or self._outgoing:
                return False
            unread = fcntl.ioctl(self._line, termios.TIOCOUTQ, bytes(4))  # bytes of ours in the socket, see unix(7)
            return not any(unread)

    @property
    def trouble(self) -> str:
        """Why the line carries nothing any more; "" while it does."""
        return self._trouble

    def close(self) -> None:
        """End the line and all its connections."""
        self._ringer.close()

    def _send(self, number: int, kind: int, length: int, data: bytes) -> None:
        self._outgoing += HEAD.pack(MAGIC, number, kind, length) + data

    def _carry(self) -> None:
        """Move bytes until the line ends: the thread's work."""
        with self._line, self._bell:
            try:
                while self._carry_once():
                    pass
                self._trouble = self._trouble or "the line is closed"
            except OSError as error:
                self._trouble = f"the line has failed: {error!r}"
            with self._lock:
                for connection in self._connections.values():
                    connection.stream.close()
                self._connections.clear()

    def _carry_once(self) -> bool:
        """Wait until something can be moved, and move it. Return False where the line has ended."""
        with selectors.DefaultSelector() as selector:
            with self._lock:
                writes = selectors.EVENT_WRITE if self._outgoing else 0
                selector.register(self._line, selectors.EVENT_READ | writes)
                selector.register(self._bell, selectors.EVENT_READ)
                for connection in self._connections.values():
                    if connection.events:
                        selector.register(connection.stream, connection.events, connection)
            ready = selector.select()
        with self._lock:
            goes_on = [self._serve(key.fileobj, key.data, events) for key, events in ready]
            self._connections = {number: one for number, one in self._connections.items() if not one.is_over}
        return all(goes_on)

    def _serve(self, end: object, connection: LineConnection | None, events: int) -> bool:
        if connection is not None:
            connection.serve(events)
            return True
        if end is self._bell:
            return bool(self._bell.recv(4096))
        if events & selectors.EVENT_WRITE:
            del self._outgoing[: self._line.send(self._outgoing)]
        return not events & selectors.EVENT_READ or self._from_line()

    def _from_line(self) -> bool:
        data = self._line.recv(65536)
        self._incoming += data
        while len(self._incoming) >= HEAD.size:
            magic, number, kind, length = HEAD.unpack_from(self._incoming)
            if magic != MAGIC:
                self._trouble = f"bytes of the line are lost: a frame begins with {bytes(self._incoming[:8]).hex()}"
                return False
            size = HEAD.size + (length if kind == DATA else 0)
            if len(self._incoming) < size:
                break
            payload = bytes(self._incoming[HEAD.size : size])
            del self._incoming[:size]
            if number in self._connections:
                self._connections[number].take(kind, length, payload)
        return bool(data)
