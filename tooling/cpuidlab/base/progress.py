"""Progress for people: one line when a long step begins and one when it ends, on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one plain line; square brackets in it are text, not markup."""
    console.print(text, markup=False)
    sys.stderr.flush()


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say that `what` begins, and how long it took when it has ended well."""
    started = time.monotonic()
    say(f"  .. {what}")
    yield
    say(f"  ok {what} ({time.monotonic() - started:.1f} s)")
