"""A QEMU or Bochs process that ends with the thread that started it, and what it prints.

The process opens nothing by name: memory, console, channels and error stream are descriptors that it inherits. So two
processes cannot collide, and nothing is left behind, not even after kill -9.
"""

import os
import subprocess
import weakref
from contextlib import suppress
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


class VmProcess:
    """One running or ended emulator."""

    def __init__(self, command: list[str], descriptors: tuple[int, ...], console: Output, **environment: str) -> None:
        """Start `command`, which inherits `descriptors`. Raises UsageError where QEMU is not installed.

        `environment` is what is added to ours.
        """
        self.command = command
        self.console = console
        self.stderr = Output("stderr")
        self._process = spawn(command, descriptors, self.stderr.descriptor, **environment)

    def exit_code(self, patience: float = 0.0) -> int | None:
        """Return the exit code; None while the process runs, after that many seconds of waiting for its end."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(patience)
        return None

    def cpu_seconds(self) -> float:
        """Return the processor time in seconds that it has taken so far; 0 where it has ended."""
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)

    def end(self) -> None:
        """Kill the process, and wait for its end."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def evidence(self, qmp: str | None = None) -> str:
        """Return all that is known of the process, for an error; `qmp` is the end of its QMP transcript, if any."""
        transcript = "" if qmp is None else f"last QMP:\n{qmp}\n"
        console = "\n".join(self.console.text().splitlines()[-CONSOLE_LINES:])
        return (
            f"command: {' '.join(self.command)}\nexit code: {self.exit_code()}\n"
            f"stderr:\n{self.stderr.text()[-4000:]}\n{transcript}last console lines:\n{console}"
        )


def spawn(
    command: list[str], descriptors: tuple[int, ...], stderr: int, **environment: str
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Start `command` so that it dies with this thread. Raises UsageError where QEMU is not installed."""
    try:
        return subprocess.Popen(
            command, pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
            env={**os.environ, **environment},
            preexec_fn=partial(end_with_parent, os.getpid()),  # noqa: PLW1509  setpriv cannot see a parent's early death
        )  # fmt: skip
    except FileNotFoundError as error:
        raise not_installed() from error
