"""A nested host under QEMU: emulated on any machine, or run by this machine's own KVM."""

from __future__ import annotations

import fcntl
import re
import shlex
import socket
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from cpuidlab.base.command import last_line
from cpuidlab.base.deadline import Deadline, wait_for
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig.console import failed_boot
from cpuidlab.rig.host_machine import Boot
from cpuidlab.rig.qemu_command import channel_words, cold_words, restore_words
from cpuidlab.rig.rest import wait_for_rest
from cpuidlab.rig.sparse_file import copy_sparse, new_memory
from cpuidlab.rig.vm_process import Output, VmProcess

if TYPE_CHECKING:
    from cpuidlab.rig.qmp import Qmp

RAM, STATE = "ram", "state"  # the files of a snapshot: memory, and QEMU's own migration stream
_IGNORE_SHARED = {"capability": "x-ignore-shared", "state": True}


class QemuMachine:
    """The HostMachine of a nested host under QEMU."""

    def __init__(self, name: str, qemu: VmProcess, qmp: Qmp, memory: IO[bytes]) -> None:
        """Take over a QEMU that runs. `start`, `restore` and `restore_copy` make a machine."""
        self.name = name
        self._qemu = qemu
        self._qmp = qmp
        self._memory = memory

    @classmethod
    def start(cls, name: str, boot: Boot, deadline: Deadline) -> Self:
        """Boot cold, with new memory. Raises UsageError where QEMU is not installed."""
        memory = new_memory()
        return cls._launch(name, memory, cold_words(memory.fileno(), boot), deadline)

    @classmethod
    def restore(cls, name: str, boot: Boot, snapshot: Path, deadline: Deadline) -> Self:
        """Map the saved memory, and copy a page when the machine writes it."""
        memory = (snapshot / RAM).open("rb")
        fcntl.flock(memory, fcntl.LOCK_SH)  # QEMU holds the lock too: the cache does not drop what is in use
        machine = cls._launch(name, memory, restore_words(memory.fileno(), boot, share=False), deadline)
        machine._load(snapshot, deadline)
        return machine

    @classmethod
    def restore_copy(cls, name: str, boot: Boot, snapshot: Path, deadline: Deadline) -> Self:
        """Copy the saved memory into memory of the machine's own, which can be saved again."""
        memory = new_memory()
        with (snapshot / RAM).open("rb") as saved:
            copy_sparse(saved.fileno(), memory.fileno())
        machine = cls._launch(name, memory, restore_words(memory.fileno(), boot, share=True), deadline)
        machine._load(snapshot, deadline)
        return machine

    @classmethod
    def _launch(cls, name: str, memory: IO[bytes], words: list[str], deadline: Deadline) -> Self:
        """Start QEMU with these words, and greet its QMP. Raises LostVMError where QEMU ends at once."""
        console = Output("console")
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = (memory.fileno(), console.descriptor, theirs.fileno())
            command = [*words, *channel_words(console.descriptor, theirs.fileno())]
            qemu = VmProcess(command, descriptors, console)
        try:
            from cpuidlab.rig.qmp import Qmp  # noqa: PLC0415  it brings asyncio with it, and QEMU starts meanwhile

            qmp = Qmp(name, ours, deadline)
        except LabError as error:
            qemu.end()
            memory.close()
            raise type(error)(str(error), qemu.evidence(error.evidence)) from error
        return cls(name, qemu, qmp, memory)

    def watch(self) -> None:
        """Raise LostVMError if QEMU or its QMP has ended, or the host's kernel has panicked or cannot boot."""
        code = self._qemu.exit_code()
        failure = failed_boot(self.name, "host", self.console())  # a panic ends QEMU, and is the cause
        if failure:
            raise self._with_evidence(failure)
        if code is not None:
            last = last_line(self._qemu.stderr.text())
            raise self._with_evidence(LostVMError(f"{self.name}: QEMU ended with exit code {code}: {last}"))
        try:
            self._qmp.watch()
        except LostVMError as error:
            raise self._with_evidence(error) from error

    def console(self) -> str:
        """Return everything that the host has printed on its serial console."""
        return self._qemu.console.text()

    def connect(self, deadline: Deadline) -> socket.socket:
        """Return a byte stream to the host's SSH server, through the port that QEMU forwards."""
        table = self._usernet(deadline)
        port = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)", table)
        if not port:
            raise LabError(f"{self.name}: QEMU forwards no port to the host's SSH server", table)
        return socket.create_connection(("127.0.0.1", int(port[1])), timeout=max(deadline.left(), 0.1))

    def snapshot(self, folder: Path, deadline: Deadline) -> None:
        """Save the machine at rest, without open connections, into the new folder `folder`; let the machine go on.

        Memory is written from the descriptor that QEMU has mapped, without zero pages. The rest is QEMU's own migration
        stream.
        """
        wait_for(
            f"the host's connections to end on {self.name}", lambda: self._is_quiet(deadline), deadline, self.watch
        )
        wait_for_rest(self._qemu, deadline)
        folder.mkdir()
        self._qmp.execute("stop", deadline)
        self._ignore_shared(deadline)
        self._qmp.execute("migrate", deadline, uri=f"exec:cat >{shlex.quote(str(folder / STATE))}")
        self._migrated("saving the machine", deadline)
        with (folder / RAM).open("wb") as file:
            copy_sparse(self._memory.fileno(), file.fileno())
        self._qmp.execute("cont", deadline)

    def stop(self) -> None:
        """End QEMU, and wait for its end."""
        self._qmp.close()
        self._qemu.end()
        self._memory.close()  # it holds all that the machine has written

    def _load(self, snapshot: Path, deadline: Deadline) -> None:
        """Load the saved state and let the machine run. Ends QEMU where that fails."""
        try:
            self._ignore_shared(deadline)
            self._qmp.execute("migrate-incoming", deadline, uri=f"exec:cat {shlex.quote(str(snapshot / STATE))}")
            self._migrated("restoring the machine", deadline)
            self._qmp.execute("cont", deadline)
        except LabError as error:
            self._qemu.end()
            failure = self._with_evidence(error)
            self.stop()
            raise failure from error

    def _ignore_shared(self, deadline: Deadline) -> None:
        """Leave the memory out of QEMU's migration stream: it is a file of its own."""
        self._qmp.execute("migrate-set-capabilities", deadline, capabilities=[_IGNORE_SHARED])

    def _migrated(self, what: str, deadline: Deadline) -> None:
        def ended() -> str | None:
            status = self._qmp.execute("query-migrate", deadline).get("status")
            return status if status in ("completed", "failed") else None

        if wait_for(f"{what} of {self.name}", ended, deadline, self.watch) == "failed":
            reason = self._qemu.stderr.text().strip()[-300:]
            raise self._with_evidence(LabError(f"{self.name}: {what} failed: {reason}"))

    def _usernet(self, deadline: Deadline) -> str:
        """Return QEMU's table of the connections of the user network."""
        return str(self._qmp.execute("human-monitor-command", deadline, command_line="info usernet"))

    def _is_quiet(self, deadline: Deadline) -> bool | None:
        """Return True where no connection into the host is open: an open one would be saved half-way."""
        return None if "ESTABLISHED" in self._usernet(deadline) else True

    def _with_evidence(self, error: LabError) -> LabError:
        """Return the same error with all that is known of the machine."""
        return type(error)(str(error), self._qemu.evidence(self._qmp.tail()))
