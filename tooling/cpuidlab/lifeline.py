"""A test must not outlive its job: when the job's process goes, even by kill -9, so does this one, and its VMs."""

import os
import select
import threading


def die_with(pid: int) -> None:
    """End this process at once when process `pid` ends. Its QEMUs end with it."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)

    def watch() -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()
