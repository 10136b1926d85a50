"""An SSH channel without SSH: one end of a socket pair, with what the project uses of paramiko's Channel."""

import socket
from typing import cast

from paramiko import Channel


class FakeChannel:
    """`far` is the other side: what a program on the host would read and write."""

    def __init__(self) -> None:
        self._near, self.far = socket.socketpair()
        self.far.settimeout(10)
        self.closed = False

    def recv(self, size: int) -> bytes:
        return self._near.recv(size)

    def sendall(self, data: bytes) -> None:
        self._near.sendall(data)

    def settimeout(self, seconds: float) -> None:
        self._near.settimeout(seconds)

    def close(self) -> None:
        self.closed = True
        self._near.shutdown(socket.SHUT_RDWR)

    def as_channel(self) -> Channel:
        return cast(Channel, self)
