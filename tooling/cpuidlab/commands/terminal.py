"""The user's terminal while a program in a VM has it: raw, of the right size, and put back however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
import tty
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from cpuidlab.rig.streams import Pty

if TYPE_CHECKING:
    from paramiko import Channel

ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# Puts the terminal back after kill -9: the end of its input, without a word before, is the end of ours. Some shells do
# so themselves; so it waits, and leaves alone what is not as we set it.
_RESTORER = """exec 3>&1 >/dev/null; trap '' HUP INT QUIT TERM
read -r _ && exit
sleep 0.3; [ "$(stty -g <&3)" = "$2" ] && stty "$1" <&3"""


class Terminal:
    """A terminal that passes on each byte as it is typed, from `with` to the end of it.

    It is what a program at the other end reads: Ctrl-C and Ctrl-Z are that program's. `~.` at the beginning of a line
    is the way out where nothing answers any more.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._escape = Escape()
        self._size = os.terminal_size((0, 0))

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._descriptor)
        cooked = self._settings()
        self._handled = [number for number in ENDS if signal.getsignal(number) is signal.SIG_DFL]
        for number in self._handled:
            signal.signal(number, self._end)
        try:
            tty.setraw(self._descriptor, termios.TCSADRAIN)
            self._restorer = self._start_restorer(cooked, self._settings())
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        for number in self._handled:
            signal.signal(number, signal.SIG_DFL)
        self._restorer.communicate(b"done\n")

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._descriptor

    def read(self) -> bytes | None:
        """Return what was typed; None where the terminal is gone. Raises KeyboardInterrupt for `~.`."""
        try:
            data = os.read(self._descriptor, 4096)
        except OSError:  # EIO
            return None
        return self._escape.pass_on(data) if data else None

    def pty(self) -> Pty:
        """Return what a program needs to know of it."""
        self._size = os.get_terminal_size(self._descriptor)
        return Pty(os.environ.get("TERM", "dumb"), *self._size)

    def tell_size(self, channel: Channel) -> None:
        """Tell the program at the other end where the window has another size than it was told last."""
        size = os.get_terminal_size(self._descriptor)
        if size != self._size:
            self._size = size
            channel.resize_pty(*size)

    def _settings(self) -> str:
        """Return the terminal's settings as `stty` reads them."""
        words = ["stty", "-g"]
        return subprocess.run(words, stdin=self._descriptor, capture_output=True, text=True, check=True).stdout.strip()

    def _start_restorer(self, cooked: str, raw: str) -> subprocess.Popen[bytes]:
        # it has a session of its own: no signal of this terminal reaches it
        words = ["sh", "-c", _RESTORER, "sh", cooked, raw]
        return subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=self._descriptor, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def _restore(self) -> None:
        with suppress(termios.error):  # it is gone
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def _end(self, number: int, _: FrameType | None) -> None:
        """Put the terminal back and end by the signal."""
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


class Escape:
    """Finds `~.` at the beginning of a line, as ssh does; `~~` there is one `~`."""

    def __init__(self) -> None:
        self._at_start = True
        self._held = False  # a ~ at the beginning of a line waits for what follows

    def pass_on(self, typed: bytes) -> bytes:
        """Return what the program is to get. Raises KeyboardInterrupt where `~.` was typed."""
        out = bytearray()
        for number in typed:
            byte = bytes((number,))
            if self._held:
                self._held = False
                if byte == b".":
                    raise KeyboardInterrupt
                out += byte if byte == b"~" else b"~" + byte
            elif self._at_start and byte == b"~":
                self._held = True
                continue
            else:
                out += byte
            self._at_start = byte in (b"\r", b"\n")
        return bytes(out)
