"""A connection to the hook: a request goes out, the lines of its answer come back."""

import errno
import re
import time
from typing import Protocol

from cpuidlab.base.errors import GivenUpError, LabError

GRACE_SECONDS = 5.0  # the hook withdraws a live request that is late, and its answer must come before we give up


class Stream(Protocol):
    """What carries the protocol."""

    def send(self, data: bytes) -> None:
        """Send all of `data`."""

    def recv_line(self, deadline: float) -> str:
        """Return the next line without its end.

        Raises LabError where the stream ends, or at `deadline` (of time.monotonic).
        """


class Connection:
    """One connection. Without a whole answer it is not used again, because the rest may come late."""

    def __init__(self, stream: Stream) -> None:
        """Take the stream that is connected to the hook's socket."""
        self._stream = stream
        self._usable = True

    def ask(self, request: str, seconds: float) -> tuple[tuple[str, ...], str]:
        """Send a request. Return the lines of the answer, and its `ok` line.

        Raises LabError, with the raw line, where the hook answers `err` or breaks the protocol; GivenUpError where KVM
        has given up the VM.
        """
        if not self._usable:
            raise LabError("this connection to the hook has failed before; open a new one")
        self._usable = False
        deadline = time.monotonic() + seconds + GRACE_SECONDS
        self._stream.send(request.encode())
        lines: list[str] = []
        while not (line := self._stream.recv_line(deadline)).startswith(("ok ", "err ")):
            if not line:
                raise self.broken(line)
            lines.append(line)
        self._usable = True
        if line.startswith("err "):
            kind = GivenUpError if line == f"err {errno.EIO} KVM_GET_CPUID2 failed" else LabError
            raise kind(f"the hook refused '{request.splitlines()[0]}': {line}")
        return tuple(lines), line

    def match(self, form: str, line: str, count: int | None = None) -> re.Match[str]:
        """Match a line. With `count` that is what its first number must be. Raises LabError where it does not match."""
        match = re.fullmatch(form, line)
        if match is None or (count is not None and int(match[1]) != count):
            raise self.broken(line)
        return match

    def broken(self, line: str) -> LabError:
        """Return the error of a line that the protocol does not allow; the connection is not used again."""
        self._usable = False
        return LabError(f"the hook broke its protocol; it said {line!r}")
