"""An SSH channel without SSH: one end of a socket pair, with what the project uses of paramiko's Channel."""

import socket
import threading
from typing import cast

from paramiko import Channel


class FakeChannel:
    """`far` is the other side: what a program on the host would read and write."""

    def __init__(self) -> None:
        self._near, self.far = socket.socketpair()
        self.far.settimeout(10)
        self.closed = False
        self.eof_received = False
        self.status: int | None = None  # the exit code of the program, once the server has sent it
        self.status_event = threading.Event()

    def recv(self, size: int) -> bytes:
        return self._near.recv(size)

    def recv_ready(self) -> bool:
        return False

    def exit_status_ready(self) -> bool:
        return self.status is not None

    def recv_exit_status(self) -> int:
        assert self.status is not None
        return self.status

    def send(self, data: bytes) -> int:
        return self._near.send(data)

    def sendall(self, data: bytes) -> None:
        self._near.sendall(data)

    def settimeout(self, seconds: float) -> None:
        self._near.settimeout(seconds)

    def set_combine_stderr(self, combine: bool) -> None:
        assert combine

    def close(self) -> None:
        self.closed = True
        self._near.shutdown(socket.SHUT_RDWR)

    def as_channel(self) -> Channel:
        return cast(Channel, self)
