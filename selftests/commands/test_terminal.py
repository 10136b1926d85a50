"""The user's terminal during a shell in a VM, and after it; a real pseudo-terminal stands in for the window."""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeshell
import psutil
import pytest
from cpuidlab.commands.terminal import Escape, Terminal

SECONDS = 15


class Window:
    """A terminal window in which `cpuidlab shell` runs."""

    def __init__(self, home: Path, *options: str) -> None:
        self.master, self.slave = os.openpty()
        self.resize(80, 24)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        # what a shell starts in the background ignores Ctrl-C, and so would all that it starts
        words = ["env", "--default-signal=HUP,INT,QUIT", sys.executable, fakeshell.__file__, str(home), *options]
        self.process = subprocess.Popen(
            words, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
            env=os.environ | {"TERM": "xterm"},
        )  # fmt: skip

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def sees(self, pattern: str) -> str:
        """Wait until the window shows the pattern, and return what it matches."""
        end = time.monotonic() + SECONDS
        while not (found := re.search(pattern.encode(), self.seen)):
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.seen!r}"
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen[found.end() :]
        return found[0].decode()

    def runs(self, program: str) -> None:
        """Wait until the shell runs that program: a Ctrl-C that comes while it starts the program is lost."""
        end = time.monotonic() + SECONDS
        while program not in [child.name() for child in psutil.Process(self.process.pid).children(recursive=True)]:
            assert time.monotonic() < end, f"{program} is not started"
            time.sleep(0.02)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def comes_back(self) -> None:
        """Wait until the terminal is as it was before."""
        end = time.monotonic() + SECONDS
        while termios.tcgetattr(self.slave) != self.before:
            assert time.monotonic() < end, "the terminal is not put back"
            time.sleep(0.02)


@pytest.fixture
def window(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Window]:
    window = Window(tmp_path, *getattr(request, "param", ()))
    try:
        yield window
    finally:
        window.process.kill()
        window.process.wait()
        os.close(window.master)
        os.close(window.slave)


def test_a_session(window: Window) -> None:
    window.sees(r"7.3-npt host:.*# ")
    assert window.is_raw()
    window.type("echo $TERM $(stty size) ü\r")
    window.sees("\r\nxterm 24 80 ü\r\n")
    window.type("echo up; sleep 60; echo $?\r")
    window.sees("\r\nup\r\n")
    window.runs("sleep")
    window.type("\x03")  # Ctrl-C is the program's
    window.sees(r"\^C")
    window.resize(100, 30)
    time.sleep(0.5)
    window.type("stty size\r")
    window.sees("\r\n30 100\r\n")
    window.type("exit 7\r")
    assert window.process.wait(SECONDS) == 7
    assert termios.tcgetattr(window.slave) == window.before


TRAPPED = "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.1; done"


@pytest.mark.parametrize("window", [("--", "sh", "-c", TRAPPED)], indirect=True)
def test_ctrl_c_is_for_a_command_on_the_terminal_alone(window: Window) -> None:
    window.sees("up")
    window.type("\x03")
    window.sees("caught")
    assert window.process.wait(SECONDS) == 9


def test_the_way_out_of_a_machine_that_hangs(window: Window) -> None:
    window.sees("# ")
    window.type("~.")
    assert window.process.wait(SECONDS) == 130
    assert termios.tcgetattr(window.slave) == window.before
    window.sees("cpuidlab: interrupted")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT, signal.SIGKILL])
def test_the_terminal_comes_back_after_a_signal(window: Window, number: signal.Signals) -> None:
    window.sees("# ")
    assert window.is_raw()
    window.process.send_signal(number)
    assert window.process.wait(SECONDS) == (130 if number is signal.SIGINT else -number)
    if number is not signal.SIGKILL:
        assert termios.tcgetattr(window.slave) == window.before
    window.comes_back()


def test_what_the_next_program_has_set_is_left_alone(window: Window) -> None:
    """A shell that sees ours killed puts its terminal back by itself, and sets it for its own prompt at once."""
    window.sees("# ")
    restorers = psutil.Process(window.process.pid).children()
    window.process.kill()
    window.process.wait()
    mine = termios.tcgetattr(window.slave)
    mine[3] |= termios.ISIG
    termios.tcsetattr(window.slave, termios.TCSANOW, mine)
    _, alive = psutil.wait_procs(restorers, SECONDS)
    assert not alive
    assert termios.tcgetattr(window.slave) == mine


def test_an_error_leaves_the_terminal_as_it_was() -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    with pytest.raises(ZeroDivisionError), Terminal(slave):
        assert termios.tcgetattr(slave) != before
        raise ZeroDivisionError
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_a_terminal_that_cannot_be_watched_is_not_left_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)

    def fail(*_: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(Terminal, "_start_restorer", fail)
    with pytest.raises(OSError, match="no more"), Terminal(slave):
        pass
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        (["ls ~\r", "cd ~/x\r"], b"ls ~\rcd ~/x\r"),
        (["~", "~.\r"], b"~.\r"),
        (["~x", ".~.\r"], b"~x.~.\r"),
        (["a~."], b"a~."),
    ],
)
def test_a_tilde_is_mostly_a_tilde(typed: list[str], passed: bytes) -> None:
    escape = Escape()
    assert b"".join(escape.pass_on(piece.encode()) for piece in typed) == passed


@pytest.mark.parametrize("typed", [["~."], ["ls\r~."], ["ls\r~", "."]])
def test_the_way_out(typed: list[str]) -> None:
    escape = Escape()
    with pytest.raises(KeyboardInterrupt):
        [escape.pass_on(piece.encode()) for piece in typed]
