"""What carries a nested KVM host: today QEMU's TCG, which emulates AMD SVM with nested paging on any machine.

A rig uses nothing of a carrier but what is public here: start, thaw, freeze, stop, watch, console and a byte stream for
SSH. No socket and no file of a running machine has a name: its QMP, console and error stream are inherited
descriptors, so nothing can collide and nothing is left behind, not even after kill -9.
"""

import ctypes
import errno
import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import weakref
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from cpuidlab.base.artifacts import file_digest
from cpuidlab.base.command import last_line
from cpuidlab.base.deadline import Deadline, wait_for
from cpuidlab.base.errors import LabError, LostVMError, UsageError
from cpuidlab.rig.console import failed_boot
from cpuidlab.rig.qmp import Qmp

QEMU = "qemu-system-x86_64"
ACCEL = "tcg"
SVM = "svm=on,npt=on"
CPU = f"EPYC,{SVM}"  # of a nested host
MEMORY_MIB = 1024
PR_SET_PDEATHSIG = 1  # linux/prctl.h
CONSOLE_LINES = 200  # a panic's stacks take a hundred, and what it was stands above them
_IGNORE_SHARED = {"capability": "x-ignore-shared", "state": True}
_libc = ctypes.CDLL(None, use_errno=True)


@cache
def qemu_identity(cpu: str) -> str:
    """What a frozen machine depends on beside what it boots: QEMU's own bytes and how it is called."""
    found = shutil.which(QEMU)
    if found is None:
        raise UsageError(f"{QEMU} is not installed; 'make setup' installs what is needed")
    return f"{file_digest(Path(found))} {' '.join(_machine_words(0, cpu, share=True))}"


@dataclass(frozen=True)
class Boot:
    """What a nested host boots: kernel and initramfs as files, the words of its kernel command line, and its CPU.

    There may be no initramfs where a machine is thawed.
    """

    kernel: Path
    initrd: Path | None
    words: str
    cpu: str = CPU


class TcgMachine:
    """A KVM host under QEMU's TCG, running or stopped. Ends with the thread that made it."""

    def __init__(
        self, name: str, boot: Boot, deadline: Deadline, frozen: Path | None = None, refreeze: bool = False
    ) -> None:
        """Start cold from `boot`, or thaw the folder `frozen` that `freeze` once filled from the same `boot`.

        A thawed machine maps the frozen memory and copies a page when it is written; only with `refreeze` has it
        memory of its own, which can be frozen again. Raises UsageError without QEMU, LostVMError where it ends at once.
        """
        self.name = name
        self._memory = _ram(frozen).open("rb") if frozen and not refreeze else os.fdopen(os.memfd_create("ram"), "rb")
        memory = self._memory.fileno()
        if frozen and not refreeze:
            fcntl.flock(memory, fcntl.LOCK_SH)  # QEMU holds it too: the cache does not drop what is thawed
        if frozen and refreeze:
            _fill(memory, _ram(frozen))
        self._console = os.memfd_create("console")
        self._stderr = os.memfd_create("stderr")
        for descriptor in (self._console, self._stderr):  # both are read after QEMU's end
            weakref.finalize(self, os.close, descriptor)
        ours, theirs = socket.socketpair()
        self.command = [
            *_machine_words(memory, boot.cpu, share=refreeze or frozen is None),
            *_boot_words(boot, thawing=frozen is not None),
            "-chardev", f"file,id=console,path=/dev/fd/{self._console}", "-serial", "chardev:console",
            "-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control",
        ]  # fmt: skip
        descriptors = (memory, self._console, theirs.fileno())
        self._process = _spawn(self.command, descriptors, self._stderr)
        theirs.close()
        try:
            self.qmp = Qmp(name, ours, deadline)
            self.qmp.execute("migrate-set-capabilities", deadline, capabilities=[_IGNORE_SHARED])
            if frozen:
                self._thaw(frozen, deadline)
        except LabError as error:
            self._kill()
            told = self._story(error)
            if hasattr(self, "qmp"):
                self.qmp.close()
            raise told from error

    def watch(self) -> None:
        """Raise LostVMError if QEMU has ended, its QMP has, or the host's kernel has panicked or cannot boot."""
        if self._process.poll() is not None:
            last = last_line(self.stderr())
            raise self._story(LostVMError(f"{self.name}: QEMU ended with exit code {self._process.returncode}: {last}"))
        failure = failed_boot(self.name, "host", self.console())
        if failure:
            raise self._story(failure)
        try:
            self.qmp.watch()
        except LostVMError as error:
            raise self._story(error) from error

    def console(self) -> str:
        """Everything that the host has printed on its serial console."""
        return _whole(self._console)

    def stderr(self) -> str:
        """Everything that QEMU has printed."""
        return _whole(self._stderr)

    def connect(self, deadline: Deadline) -> socket.socket:
        """A byte stream to the host's SSH server."""
        table = self.qmp.execute("human-monitor-command", deadline, command_line="info usernet")
        port = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)", table)
        if not port:
            raise LabError(f"{self.name}: QEMU forwards no port to the host's SSH server", table)
        return socket.create_connection(("127.0.0.1", int(port[1])), timeout=max(deadline.left(), 0.1))

    def cpu_seconds(self) -> float:
        """The processor time that QEMU has taken so far; where it has ended, `watch` tells."""
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)

    def is_quiet(self, deadline: Deadline) -> bool:
        """Whether no connection into the host is open: one would be frozen half-way."""
        return "ESTABLISHED" not in self.qmp.execute("human-monitor-command", deadline, command_line="info usernet")

    def freeze(self, folder: Path, deadline: Deadline) -> None:
        """Save the stopped machine into `folder` and let it go on. No SSH connection may be open.

        Memory is written from the descriptor that QEMU has mapped, zero pages left out; the rest is QEMU's own
        migration stream.
        """
        self.qmp.execute("stop", deadline)
        self.qmp.execute("migrate", deadline, uri=f"exec:cat >{shlex.quote(str(folder / 'state'))}")
        self._migrated("saving the machine", deadline)
        with _ram(folder).open("wb") as file:
            _copy_sparse(self._memory.fileno(), file.fileno())
        self.qmp.execute("cont", deadline)

    def stop(self) -> None:
        """End QEMU and wait for its end."""
        self.qmp.close()
        self._kill()

    def _thaw(self, frozen: Path, deadline: Deadline) -> None:
        self.qmp.execute("migrate-incoming", deadline, uri=f"exec:cat {shlex.quote(str(frozen / 'state'))}")
        self._migrated("thawing", deadline)
        self.qmp.execute("cont", deadline)

    def _migrated(self, what: str, deadline: Deadline) -> None:
        def ended() -> str | None:
            status = self.qmp.execute("query-migrate", deadline).get("status")
            return status if status in ("completed", "failed") else None

        if wait_for(f"{what} of {self.name}", ended, deadline, self.watch) == "failed":
            raise self._story(LabError(f"{self.name}: {what} failed: {self.stderr().strip()[-300:]}"))

    def _story(self, error: LabError) -> LabError:
        """The same error with all that can be known of the machine."""
        said = f"command: {' '.join(self.command)}\nexit code: {self._process.poll()}\nstderr:\n{self.stderr()[-4000:]}"
        qmp = self.qmp.tail() if hasattr(self, "qmp") else error.evidence
        console = "\n".join(self.console().splitlines()[-CONSOLE_LINES:])
        return type(error)(str(error), f"{said}\nlast QMP:\n{qmp}\nlast console lines:\n{console}")

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._memory.close()  # it holds all that the machine has written


def _machine_words(memory: int, cpu: str, share: bool) -> list[str]:
    # one vCPU: with two, threads of TCG that share the memory were seen to lose a guest now and then (docs/findings.md)
    ram = f"memory-backend-file,id=ram,size={MEMORY_MIB}M,mem-path=/dev/fd/{memory},share={'on' if share else 'off'}"
    return [
        QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-object", ram, "-machine", f"q35,accel={ACCEL},memory-backend=ram", "-m", str(MEMORY_MIB),
        "-cpu", cpu, "-smp", "1",
        "-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22",
        "-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci",
    ]  # fmt: skip


def _boot_words(boot: Boot, thawing: bool) -> list[str]:
    """A thawed machine needs the same option ROMs, thus a kernel, but never reads the initramfs again."""
    if thawing:
        return ["-kernel", str(boot.kernel), "-incoming", "defer"]
    return ["-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", boot.words]


def _spawn(command: list[str], descriptors: tuple[int, ...], stderr: int) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    try:
        return subprocess.Popen(
            command, pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
            preexec_fn=die_with_parent,  # noqa: PLW1509  setpriv cannot see a parent that died before its call
        )  # fmt: skip
    except FileNotFoundError as error:
        raise UsageError(f"{QEMU} is not installed; 'make setup' installs what is needed") from error


def _whole(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")


def _ram(folder: Path) -> Path:
    return folder / "ram"


def _fill(memory: int, ram: Path) -> None:
    with ram.open("rb") as file:
        _copy_sparse(file.fileno(), memory)


def _copy_sparse(source: int, target: int) -> None:
    """Copy a file, leaving holes where there are only zeros."""
    block = 64 * 1024
    nothing = bytes(block)
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    offset = _next_data(source, 0, size)
    while offset < size:
        piece = os.pread(source, block, offset)
        if piece != nothing and os.pwrite(target, piece, offset) != len(piece):
            raise OSError(errno.ENOSPC, "no space left for the machine's memory")
        offset = _next_data(source, offset + block, size)


def _next_data(source: int, offset: int, size: int) -> int:
    try:
        return os.lseek(source, offset, os.SEEK_DATA) if offset < size else size
    except OSError:  # ENXIO: only a hole is left
        return size
