"""Connections over a serial line: guests/host/tcpline.c, built and run here on a pseudo-terminal, and our end of it."""

import contextlib
import os
import pty
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.base.paths import GUESTS
from cpuidlab.rig.tcp_line import TcpLine

BULK = bytes(range(256)) * 1000  # many windows


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("tcpline") / "tcpline"
    source = GUESTS / "host" / "tcpline.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    return program


class Host:
    """A host with a server on its loopback, which does `serve` with each connection, and its serial line."""

    def __init__(self, program: Path) -> None:
        self.serve: Callable[[socket.socket], None] = _echo
        self.server = socket.create_server(("127.0.0.1", 0))
        self.there, self.terminal = pty.openpty()
        self.ours, self.outside = socket.socketpair()
        port = str(self.server.getsockname()[1])
        path = os.ttyname(self.terminal)
        subprocess.run([program, path, port], check=True, timeout=20)
        self.pid = _pid_of([str(program), path, port])
        self.accepts, *pumps = (threading.Thread(target=w, daemon=True) for w in (self._accept, self._up, self._down))
        for thread in (self.accepts, *pumps):
            thread.start()
        self.line = TcpLine(self.ours)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.server.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def _up(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.outside.recv(4096):
                os.write(self.there, data)

    def _down(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self.there, 4096):
                self.outside.sendall(data)

    def close_server(self) -> None:
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)  # its thread would go on with whatever gets the descriptor next
        self.accepts.join()
        self.server.close()

    def end(self) -> None:
        self.line.close()
        self.close_server()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.terminal)


@pytest.fixture
def host(program: Path) -> Iterator[Host]:
    host = Host(program)
    yield host
    host.end()


def _pid_of(words: list[str]) -> int:
    """Return the process with that command line; a minimal system has no pgrep."""
    wanted = "".join(f"{word}\0" for word in words).encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended
            if entry.read_bytes() == wanted:
                return int(entry.parent.name)
    raise AssertionError(f"no process is {' '.join(words)}")


def _echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)


def _read(stream: socket.socket, size: int) -> bytes:
    stream.settimeout(20)
    data = b""
    while len(data) < size and (piece := stream.recv(65536)):
        data += piece
    return data


def _quiet(line: TcpLine) -> bool:
    end = time.monotonic() + 20
    while not line.is_quiet and time.monotonic() < end:
        time.sleep(0.01)
    return line.is_quiet


def test_bytes_of_all_values_come_back_whole(host: Host) -> None:
    with host.line.connect() as stream:
        threading.Thread(target=stream.sendall, args=(BULK,), daemon=True).start()
        assert _read(stream, len(BULK)) == BULK
        assert not host.line.is_quiet
    assert _quiet(host.line)


def test_connections_do_not_mix(host: Host) -> None:
    streams = [host.line.connect() for _ in range(3)]
    for number, stream in enumerate(streams):
        stream.sendall(b"connection %d" % number)
    assert [_read(stream, 12) for stream in streams] == [b"connection %d" % number for number in range(3)]


def test_a_server_that_closes_ends_the_connection(host: Host) -> None:
    def answer_and_close(connection: socket.socket) -> None:
        with connection:
            connection.sendall(BULK)

    host.serve = answer_and_close
    with host.line.connect() as stream:
        assert _read(stream, len(BULK) + 1) == BULK
    assert _quiet(host.line)


def test_nobody_listens(host: Host) -> None:
    host.close_server()
    with host.line.connect() as stream:
        assert _read(stream, 1) == b""
    assert _quiet(host.line)


@pytest.mark.parametrize("reader", ["server", "caller"])
def test_one_connection_that_nobody_reads_does_not_block_another(host: Host, reader: str) -> None:
    def sleep(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if reader == "caller":
                connection.sendall(BULK * 20)
            time.sleep(20)

    host.serve = sleep
    stuck = host.line.connect()
    stuck.setblocking(False)
    if reader == "server":
        with contextlib.suppress(BlockingIOError):
            while True:
                stuck.send(BULK)
    time.sleep(0.2)
    host.serve = _echo
    with host.line.connect() as stream:
        stream.sendall(b"still here")
        assert _read(stream, 10) == b"still here"
    stuck.close()


def test_numbers_are_used_again(host: Host) -> None:
    for _ in range(300):
        with host.line.connect() as stream:
            stream.sendall(b"x")
            assert _read(stream, 1) == b"x"


def test_a_line_that_lost_bytes_is_a_trouble() -> None:
    ours, outside = socket.socketpair()
    line = TcpLine(ours)
    outside.sendall(b"rubbish")
    end = time.monotonic() + 10
    while not line.trouble and time.monotonic() < end:
        time.sleep(0.01)
    assert "a frame begins with 7275626269" in line.trouble
    with pytest.raises(LabError, match="no connection over the serial line: bytes of the line are lost"):
        line.connect()


def test_a_line_that_ends_closes_its_connections() -> None:
    ours, outside = socket.socketpair()
    line = TcpLine(ours)
    stream = line.connect()
    outside.close()
    assert _read(stream, 1) == b""
    assert line.trouble
