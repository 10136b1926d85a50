"""A host without a VM: what is started "over SSH" runs on this machine, by busybox's shell, as on a real host."""

import fcntl
import os
import select
import struct
import subprocess
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cpuidlab.base.deadline import Deadline
from cpuidlab.rig.streams import Pty

WINDOW = 100_000  # bytes of a program's output that nobody has taken; then it has to wait


class FakeHost:
    """Programs start in the folder `home`; `channels` are the connections to them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.channels: list[FakeProgram] = []

    def open_program(self, command: str, deadline: Deadline, pty: Pty | None = None) -> Any:
        assert 0 < deadline.left() < 1000
        self.channels.append(FakeProgram(os.fsencode(command), self.home, pty))
        return self.channels[-1]


class FakeProgram:
    """What the project uses of paramiko's Channel, joined to a program of this machine."""

    def __init__(self, command: bytes, home: Path, pty: Pty | None) -> None:
        self.closed = False
        self.sizes: list[tuple[int, int]] = []
        self._lock = threading.Lock()
        self._out, self._err = bytearray(), bytearray()
        self._wake, self._waker = os.pipe()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        near, far = os.openpty() if pty else (-1, -1)
        streams: dict[str, Any] = dict.fromkeys(pipes, far) if pty else pipes

        def take_terminal() -> None:
            if pty:
                fcntl.ioctl(far, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            ["busybox", "sh", "-c", command], cwd=home, start_new_session=True, preexec_fn=take_terminal,  # noqa: PLW1509
            env={"PATH": os.defpath, "HOME": str(home), "TERM": pty.term if pty else "dumb"}, **streams,
        )  # fmt: skip
        if pty:
            os.close(far)
            self._input = near
            self.resize_pty(pty.columns, pty.rows)
            sources = [(near, self._out)]
        else:
            assert self.process.stdin and self.process.stdout and self.process.stderr
            self._input = self.process.stdin.fileno()
            os.set_blocking(self._input, False)
            sources = [(self.process.stdout.fileno(), self._out), (self.process.stderr.fileno(), self._err)]
        self._readers = [threading.Thread(target=self._read, args=source, daemon=True) for source in sources]
        for reader in self._readers:
            reader.start()

    def _read(self, descriptor: int, into: bytearray) -> None:
        try:
            while data := os.read(descriptor, 65536):
                while len(into) > WINDOW:
                    time.sleep(0.001)
                with self._lock:
                    into += data
                os.write(self._waker, b"x")
        except OSError:  # EIO, from a pseudo-terminal at its end
            pass
        os.write(self._waker, b"x")

    @property
    def eof_received(self) -> bool:
        return not any(reader.is_alive() for reader in self._readers)

    def fileno(self) -> int:
        return self._wake

    def recv_ready(self) -> bool:
        return bool(self._out)

    def recv_stderr_ready(self) -> bool:
        return bool(self._err)

    def recv(self, size: int) -> bytes:
        return self._take(self._out, size)

    def recv_stderr(self, size: int) -> bytes:
        return self._take(self._err, size)

    def _take(self, buffer: bytearray, size: int) -> bytes:
        with self._lock:
            data = bytes(buffer[:size])
            del buffer[:size]
            if not self._out and not self._err:
                os.set_blocking(self._wake, False)
                with suppress(BlockingIOError):
                    os.read(self._wake, 65536)
        return data

    def send_ready(self) -> bool:
        return bool(select.select([], [self._input], [], 0)[1])

    def send(self, data: bytes) -> int:
        """Send a part of it; a program that reads nothing makes the sender wait, as paramiko's would."""
        select.select([], [self._input], [])
        return os.write(self._input, data[:20000])

    def shutdown_write(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()

    def resize_pty(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))
        fcntl.ioctl(self._input, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def exit_status_ready(self) -> bool:
        return self.process.poll() is not None

    def recv_exit_status(self) -> int:
        return max(self.process.wait(10), -1)
