"""How much this machine does at the same time, and doing it."""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence

import psutil

RIG_BYTES = 600 * 2**20  # what a running rig takes of this machine's memory


def rigs_at_once() -> int:
    """How many rigs this machine can run at the same time: one for each core, as far as the free memory goes."""
    return max(1, min(len(os.sched_getaffinity(0)), psutil.virtual_memory().available // RIG_BYTES))


def in_parallel(works: Sequence[Callable[[], object]], at_once: int) -> None:
    """Do all works; after the first failure, which is raised, none is begun.

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
