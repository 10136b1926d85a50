"""Show progress to people: a line on stderr when a long step begins, and a line when the step ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console() -> Console:
    """Return the console on stderr."""
    from rich.console import Console  # noqa: PLC0415  a command that shows nothing ends before this would be imported

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one plain line; square brackets in it are text, not markup."""
    console().print(text, markup=False)
    sys.stderr.flush()


class Watcher(Protocol):
    """What shows long steps; `seconds` is None for a step that failed."""

    def begins(self, what: str) -> None: ...

    def ended(self, what: str, seconds: float | None) -> None: ...


class Lines:
    """Shows each step as a line when it begins and one when it has ended well."""

    def begins(self, what: str) -> None:
        """Print that the step begins."""
        say(f"  .. {what}")

    def ended(self, what: str, seconds: float | None) -> None:
        """Print how long the step took."""
        if seconds is not None:
            say(f"  ok {what} ({seconds:.1f} s)")


watcher: Watcher = Lines()  # a job with a live line puts its own here


@contextmanager
def step(what: str) -> Iterator[None]:
    """Show that the step `what` begins, and how long it took where it ended well."""
    started, shown, seconds = time.monotonic(), watcher, None
    shown.begins(what)
    try:
        yield
        seconds = time.monotonic() - started
    finally:
        shown.ended(what, seconds)
