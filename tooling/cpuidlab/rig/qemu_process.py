"""A QEMU process that ends with the thread that started it, and what it prints.

The process opens nothing by name: its memory, console, QMP and error stream are descriptors that it inherits. So two
processes cannot collide, and nothing is left behind, not even after kill -9.
"""

import os
import subprocess
import weakref
from functools import partial

import psutil

from cpuidlab.base.die_with_parent import end_with_parent
from cpuidlab.rig.host_qemu import not_installed

CONSOLE_LINES = 200  # in an error's evidence: a panic prints a hundred lines of stacks, and its cause stands above them


class Output:
    """A file without a name that a process prints into. It can be read after the end of the process too."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.memfd_create(name)
        weakref.finalize(self, os.close, self.descriptor)

    def text(self) -> str:
        """Return everything that was printed."""
        return os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0).decode(errors="replace")


class QemuProcess:
    """One running or ended QEMU."""

    def __init__(self, command: list[str], descriptors: tuple[int, ...], console: Output) -> None:
        """Start `command`, which inherits `descriptors`. Raises UsageError where QEMU is not installed."""
        self.command = command
        self.console = console
        self.stderr = Output("stderr")
        self._process = spawn(command, descriptors, self.stderr.descriptor)

    def exit_code(self) -> int | None:
        """Return the exit code of QEMU, None while it runs."""
        return self._process.poll()

    def cpu_seconds(self) -> float:
        """Return the processor time that QEMU has taken so far; 0 where it has ended."""
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)

    def end(self) -> None:
        """Kill QEMU, and wait for its end."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def evidence(self, qmp: str) -> str:
        """Return all that is known of QEMU, for an error; `qmp` is the end of the QMP transcript."""
        console = "\n".join(self.console.text().splitlines()[-CONSOLE_LINES:])
        return (
            f"command: {' '.join(self.command)}\nexit code: {self.exit_code()}\n"
            f"stderr:\n{self.stderr.text()[-4000:]}\nlast QMP:\n{qmp}\nlast console lines:\n{console}"
        )


def spawn(command: list[str], descriptors: tuple[int, ...], stderr: int) -> subprocess.Popen[bytes]:
    """Start `command` so that it dies with this thread. Raises UsageError where QEMU is not installed."""
    try:
        return subprocess.Popen(
            command, pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
            preexec_fn=partial(end_with_parent, os.getpid()),  # noqa: PLW1509  setpriv cannot see a parent's early death
        )  # fmt: skip
    except FileNotFoundError as error:
        raise not_installed() from error
