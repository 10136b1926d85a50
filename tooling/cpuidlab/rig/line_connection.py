"""Our end of one connection over a serial line, and the frames on the line; guests/host/tcpline.c describes them."""

import selectors
import socket
import struct
from collections.abc import Callable

MAGIC = 0xA5
OPEN, DATA, CLOSE, TAKEN = b"ODCT"
WINDOW, PIECE = 8192, 1024  # bytes of one connection that are on their way in one direction, and of one frame, at most
HEAD = struct.Struct("<BBBH")  # MAGIC, number of the connection, kind, length


class LineConnection:
    """One connection: `stream` leads to the caller, and `send` puts a frame of that kind and length on the line."""

    def __init__(self, stream: socket.socket, send: Callable[[int, int, bytes], None]) -> None:
        """Take over `stream`, which must not block, and ask the other side to open the connection."""
        self.stream = stream
        self._send = send
        self._credit = WINDOW
        self._waiting = bytearray()  # what the caller has not taken yet
        self._closed_here = self._closed_there = False
        send(OPEN, 0, b"")

    @property
    def events(self) -> int:
        """Return what of `stream` is waited for, as `selectors` has it; 0 for nothing."""
        if self._closed_here:
            return 0
        return (selectors.EVENT_READ if self._credit else 0) | (selectors.EVENT_WRITE if self._waiting else 0)

    @property
    def is_over(self) -> bool:
        """Tell whether both sides have closed, so that the number is free."""
        return self._closed_here and self._closed_there

    def serve(self, events: int) -> None:
        """Move what can be moved between the caller and the line."""
        if events & selectors.EVENT_WRITE and not self._closed_here:
            self._flush()
        if events & selectors.EVENT_READ and not self._closed_here:
            self._from_stream()

    def take(self, kind: int, length: int, payload: bytes) -> None:
        """Take a frame that came over the line."""
        if kind == DATA and not self._closed_here:
            self._waiting += payload
            self._flush()
        elif kind == TAKEN:
            self._credit += length
        elif kind == CLOSE:
            self._closed_there = True
            if not self._waiting:
                self._end()

    def _from_stream(self) -> None:
        try:
            data = self.stream.recv(min(PIECE, self._credit))
        except OSError:
            data = b""
        if data:
            self._credit -= len(data)
            self._send(DATA, len(data), data)
        else:
            self._end()

    def _flush(self) -> None:
        """Pass on what waits for the caller, and tell the other side how much that was."""
        try:
            sent = self.stream.send(self._waiting) if self._waiting else 0
        except BlockingIOError:
            return
        except OSError:  # the caller has closed
            self._end()
            return
        del self._waiting[:sent]
        if sent and not self._closed_there:
            self._send(TAKEN, sent, b"")
        if self._closed_there and not self._waiting:
            self._end()

    def _end(self) -> None:
        """Close this side; the last frame of ours."""
        if not self._closed_here:
            self._closed_here = True
            self._waiting.clear()
            self.stream.close()
            self._send(CLOSE, 0, b"")
