"""Nothing outlives its job, not even where that ends by kill -9: no test, none of its VMs, no temporary file."""

import os
import select
import subprocess
import tempfile
import threading

_LONGEST = 107 - len("/cpuidlab-12345678/avocado_12345678/.status_server.sock")  # a socket's path, unix(7)
# Waits for the end of what it reads, which is the end of the one who writes. A killed job's tests die while it removes.
_REMOVER = """trap '' HUP INT TERM; read -r _; for _ in 1 2 3; do rm -rf -- "$1" && break; sleep 1; done"""


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


def own_temp_folder() -> None:
    """Have this process and its children put temporary files in a new folder, which is removed when this process ends.

    Avocado removes its own where it ends well. OSError where there is no room for a folder.
    """
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > _LONGEST:
        parent = "/tmp"  # noqa: S108 - Avocado's socket would not fit into the user's own
    folder = tempfile.mkdtemp(prefix="cpuidlab-", dir=parent)
    read, _ = os.pipe()  # the other end is open for as long as this process lives
    # no child of ours: Avocado kills all of those where it is terminated
    words = ["setsid", "--fork", "sh", "-c", _REMOVER, "sh", folder]
    subprocess.run(words, stdin=read, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    os.close(read)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
