"""Do several things at the same time, as many as this machine can."""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence

import psutil

RIG_BYTES = 600 * 2**20  # what a running rig takes of this machine's memory


def rigs_at_once() -> int:
    """Return how many rigs can run at the same time: as many as there are cores, and as the free memory allows."""
    return max(1, min(len(os.sched_getaffinity(0)), psutil.virtual_memory().available // RIG_BYTES))


def in_parallel(works: Sequence[Callable[[], object]], at_once: int) -> None:
    """Do all works; after the first failure none is begun, and the failure is raised.

    The threads are daemons: a program that is interrupted does not wait for them, and a rig ends with its thread.
    """
    left, failures = deque(works), list[Exception]()

    def work() -> None:
        while not failures:
            try:
                todo = left.popleft()
            except IndexError:
                return
            try:
                todo()
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(at_once, len(works)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
