"""Wait in a test until something is so."""

import time
from collections.abc import Callable


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Look until `true` says so; the test fails after `seconds`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "too late"
        time.sleep(0.02)
