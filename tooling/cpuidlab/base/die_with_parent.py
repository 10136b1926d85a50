"""End with the parent, even where the parent is killed by kill -9: tests, their VMs, programs, temporary files.

There are three ways, because the parents differ. A program that is started from a thread ends with that thread
(DIE_WITH_US). A QEMU must not outlive a parent that died before the QEMU could ask for that (end_with_parent). A test
is no child of the job that it ends with (die_with).
"""

import ctypes
import os
import select
import signal
import subprocess
import tempfile
import threading

# Before a program's words: the program ends with the thread that started it. See setpriv(1), PR_SET_PDEATHSIG.
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LONGEST = 107 - len("/cpuidlab-12345678/avocado_12345678/.status_server.sock")  # a socket's path, unix(7)
_libc = ctypes.CDLL(None)
# Waits until the writer of the pipe has ended, and removes the folder. A killed job's tests die while it removes.
_REMOVER = """trap '' HUP INT TERM; read -r _; for _ in 1 2 3; do rm -rf -- "$1" && break; sleep 1; done"""


def end_with_parent(parent: int) -> None:
    """Have this process end with its parent, process `parent`; for a new process before its exec."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the call
        os._exit(1)


def die_with(pid: int) -> None:
    """End this process, and with it its QEMUs, at once when process `pid` ends; `pid` need not be its parent."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(1)

    def watch() -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="die with").start()


def own_temp_folder() -> None:
    """Have this process and its children put temporary files in a new folder, which is removed when this process ends.

    Avocado removes its own folder where Avocado ends well. Raises OSError where there is no room for a folder.
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
