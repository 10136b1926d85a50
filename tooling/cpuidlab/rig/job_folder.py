"""The private folder that a job keeps on a real machine: what all of its tests need is brought there once."""

import atexit
import os
import shlex
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base.artifacts import key_of
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UnsupportedError
from cpuidlab.rig.reach import Reach
from cpuidlab.rig.supervisor import PROGRAM, Supervisor

BRING_SECONDS = 400.0  # 25 MB, over whatever line leads to the machine
KERNEL, INITRD, HOOK, READOUT, BAREVM = "vmlinuz", "initrd", "cpuidhook.so", "readout", "barevm"
_LOCKS: dict[str, threading.Lock] = {}
_OWN: set[str] = set()


@dataclass(frozen=True)
class Cargo:
    """What is brought to a machine: files of this machine. The initramfs is packed by gzip."""

    supervisor: Path
    readout: Path
    barevm: Path
    hook: Path
    kernel: Path
    initrd: Path


def job_folder(reach: Reach, qemu: str, cargo: Cargo) -> str:
    """Return the path of the job's folder on a machine with that QEMU; it is made where there is none yet.

    The folder is there until the process that has made it ends: the job, whose tests find it by a variable of the
    environment, or a command. A test whose job has lost the machine makes one of its own. Raises UnsupportedError where
    the machine cannot load the hook, LabError where it does not answer or has booted since the folder was made.
    """
    variable = f"CPUIDLAB_FOLDER_{key_of({'machine': reach.name})}"
    deadline = Deadline.after(BRING_SECONDS)
    with _LOCKS.setdefault(reach.name, threading.Lock()):
        folder = os.environ.get(variable)
        if folder is None or not _is_there(reach, folder, deadline):
            if folder:
                check_boot(reach, folder, deadline)
            folder = os.environ[variable] = _held(reach, qemu, cargo, deadline)
            _OWN.add(folder)
        return folder


def is_shared(folder: str) -> bool:
    """Tell whether others than this process use that folder: the tests of a job."""
    return folder not in _OWN


def check_boot(reach: Reach, folder: str, deadline: Deadline) -> None:
    """Raise LabError where the machine has booted since the folder was made: the folder's name begins with the boot."""
    boot = reach.run("cut -c1-8 /proc/sys/kernel/random/boot_id", deadline).strip()
    if f".{boot}." not in folder:
        raise LabError(f"{reach.name} has booted anew since the job began; run the job again")


def _is_there(reach: Reach, folder: str, deadline: Deadline) -> bool:
    program = shlex.quote(f"{folder}/{PROGRAM}")
    return bool(reach.run(f"[ -x {program} ] && echo yes", deadline, check=False))


def _held(reach: Reach, qemu: str, cargo: Cargo, deadline: Deadline) -> str:
    """Make the folder and keep it until this process ends; return its path."""
    made = Future[str]()

    def hold() -> None:
        try:
            supervisor = _brought(reach, qemu, cargo, deadline)
        except BaseException as error:  # raised to the caller
            made.set_exception(error)
            return
        atexit.register(supervisor.close)
        made.set_result(supervisor.folder)
        threading.Event().wait()  # what leads to the machine ends with the thread that started it

    threading.Thread(target=hold, daemon=True, name="job folder").start()
    return made.result()


def _brought(reach: Reach, qemu: str, cargo: Cargo, deadline: Deadline) -> Supervisor:
    supervisor = Supervisor(reach, cargo.supervisor, deadline)
    try:
        supervisor.put(READOUT, cargo.readout.read_bytes(), deadline, 0o700)
        supervisor.put(BAREVM, cargo.barevm.read_bytes(), deadline, 0o700)
        supervisor.put(HOOK, cargo.hook.read_bytes(), deadline, 0o700)
        _check_hook(reach, qemu, supervisor.path(HOOK), deadline)
        supervisor.put(KERNEL, cargo.kernel.read_bytes(), deadline)
        supervisor.put(INITRD, cargo.initrd.read_bytes(), deadline, unpack="gunzip -c")
    except BaseException:
        supervisor.close()
        raise
    return supervisor


def _check_hook(reach: Reach, qemu: str, hook: str, deadline: Deadline) -> None:
    """Raise UnsupportedError where the machine's C library cannot load the hook into QEMU.

    Another program does not tell: before glibc 2.34 a program has threads only if it is linked with libpthread.
    """
    command = f"LD_PRELOAD={shlex.quote(hook)} {shlex.quote(qemu)} --version 2>&1 >/dev/null"
    said = reach.run(command, deadline, check=False).strip()
    if said:
        raise UnsupportedError(f"{reach.name}: the hook cannot be loaded there: {said.splitlines()[0]}")
