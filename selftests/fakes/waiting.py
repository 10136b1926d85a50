"""Wait in a test until something is so."""

import time
from collections.abc import Callable

import psutil


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Look until `true` says so; the test fails after `seconds`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "too late"
        time.sleep(0.02)


def ended(pid: int) -> bool:
    """Tell whether that process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
