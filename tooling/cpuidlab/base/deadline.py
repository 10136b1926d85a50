"""Wait for something: always by a poll, with a deadline, and with an eye on the machine that is waited for."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cpuidlab.base.errors import LabError

T = TypeVar("T")
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock, in seconds. A test has one and hands it down to everything that it does.

    `patience` is how many times as long as usual everything may take, for a machine that is slower than usual.
    """

    at: float
    patience: float = 1.0

    @classmethod
    def after(cls, seconds: float, patience: float = 1.0) -> "Deadline":
        """Return the moment `seconds` from now, or later by that patience."""
        return cls(time.monotonic() + seconds * patience, patience)

    def left(self) -> float:
        """Return the seconds to go, 0 when the deadline has passed."""
        return max(0.0, self.at - time.monotonic())

    def pause(self, seconds: float) -> None:
        """Sleep that long, with whatever patience, but not beyond the deadline; for the pause between two looks."""
        time.sleep(min(seconds, self.left()))

    def within(self, seconds: float) -> "Deadline":
        """Return this deadline, or the moment `seconds` from now, with the same patience, where that comes first."""
        return Deadline(min(self.at, time.monotonic() + seconds * self.patience), self.patience)

    def before(self, seconds: float) -> "Deadline":
        """Return the moment that long, with the same patience, before this deadline."""
        return Deadline(self.at - seconds * self.patience, self.patience)


def wait_for(what: str, look: Callable[[], T | None], deadline: Deadline, watch: Callable[[], None]) -> T:
    """Look until `look` gives something other than None, and return it.

    `watch` is called before each look and raises LostVMError when the machine is no longer worth waiting for. Raises
    LabError when the deadline passes.
    """
    started = time.monotonic()
    while True:
        watch()
        found = look()
        if found is not None:
            return found
        if deadline.left() == 0:
            raise LabError(f"waited {time.monotonic() - started:.1f} s in vain for {what}")
        time.sleep(POLL_SECONDS)
