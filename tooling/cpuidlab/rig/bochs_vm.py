"""A nested host under Bochs, which emulates an Intel CPU with VMX on any machine."""

import fcntl
import os
import shutil
import socket
from pathlib import Path
from typing import IO, Self

from cpuidlab.base.command import last_line
from cpuidlab.base.deadline import Deadline, wait_for
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig.bochs import bochs
from cpuidlab.rig.bochs_boot import boot_rom, lay_out, vga_rom
from cpuidlab.rig.bochs_command import CONFIG, MACHINE, MOST_PATH, Files, variables, words
from cpuidlab.rig.console import failed_boot
from cpuidlab.rig.host_machine import Boot
from cpuidlab.rig.host_vm import RAM
from cpuidlab.rig.qemu_command import MEMORY_MIB
from cpuidlab.rig.rest import wait_for_rest
from cpuidlab.rig.sparse_file import copy_sparse, new_memory
from cpuidlab.rig.tcp_line import TcpLine
from cpuidlab.rig.vm_process import Output, VmProcess

PING, GO_ON = b"?", b"!"  # on the control channel, see tooling/bochs/bochs.patch; a path saves the machine there
RUNNING, SAVED = b"running", b"saved"
ENDING_SECONDS = 1.0  # from the end of the line to the end of Bochs, which is the cause


class BochsMachine:
    """The HostMachine of a nested host under Bochs.

    Bochs answers on its control channel, of which each message is a packet. Its memory is a file of ours.
    """

    def __init__(self, name: str, process: VmProcess, memory: IO[bytes], control: socket.socket, line: TcpLine) -> None:
        """Take over a Bochs that runs. `start`, `restore` and `restore_copy` make a machine."""
        self.name = name
        self._process = process
        self._memory = memory
        self._control = control
        self._line = line

    @classmethod
    def start(cls, name: str, boot: Boot, deadline: Deadline) -> Self:
        """Boot cold, with new memory that holds kernel and initramfs."""
        memory = new_memory()
        os.truncate(memory.fileno(), MEMORY_MIB << 20)
        lay_out(memory.fileno(), boot)
        return cls._launch(name, memory, boot, None, deadline)

    @classmethod
    def restore(cls, name: str, boot: Boot, snapshot: Path, deadline: Deadline) -> Self:
        """Map the saved memory, and copy a page when the machine writes it."""
        memory = (snapshot / RAM).open("rb")  # Bochs maps what may only be read privately
        fcntl.flock(memory, fcntl.LOCK_SH)  # Bochs holds the lock too: the cache does not drop what is in use
        return cls._launch(name, memory, boot, snapshot, deadline)

    @classmethod
    def restore_copy(cls, name: str, boot: Boot, snapshot: Path, deadline: Deadline) -> Self:
        """Copy the saved memory into memory of the machine's own, which can be saved again."""
        memory = new_memory()
        with (snapshot / RAM).open("rb") as saved:
            copy_sparse(saved.fileno(), memory.fileno())
        return cls._launch(name, memory, boot, snapshot, deadline)

    @classmethod
    def _launch(cls, name: str, memory: IO[bytes], boot: Boot, saved: Path | None, deadline: Deadline) -> Self:
        """Start Bochs, and wait until it runs, with its saved state if there is one."""
        build = bochs()
        console, boots, shows = Output("console"), Output("boot ROM"), Output("VGA ROM")
        os.write(boots.descriptor, boot_rom())
        os.write(shows.descriptor, vga_rom())
        control, its_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line, its_line = socket.socketpair()
        with its_control, its_line:
            sockets = its_control.fileno(), console.descriptor, its_line.fileno()
            files = Files(memory.fileno(), *sockets, boots.descriptor, shows.descriptor)
            process = VmProcess(words(build, saved), files.all, console, **variables(build, boot.cpu, files))
        machine = cls(name, process, memory, control, TcpLine(line))
        try:
            machine._ask(PING, RUNNING, "Bochs to run", deadline)
        except LabError:
            machine.stop()
            raise
        return machine

    def watch(self) -> None:
        """Raise LostVMError if Bochs has ended, its serial line is broken, or the host's kernel cannot go on."""
        trouble = self._line.trouble
        code = self._process.exit_code(ENDING_SECONDS if trouble else 0.0)
        failure = failed_boot(self.name, "host", self.console())  # a panic ends Bochs, and is the cause
        if failure:
            raise self._with_evidence(failure)
        if code is not None:
            last = last_line(self._process.stderr.text())
            raise self._with_evidence(LostVMError(f"{self.name}: Bochs ended with exit code {code}: {last}"))
        if trouble:
            raise self._with_evidence(LostVMError(f"{self.name}: {trouble}"))

    def console(self) -> str:
        """Return everything that the host has printed on its serial console."""
        return self._process.console.text()

    def connect(self, deadline: Deadline) -> socket.socket:
        """Return a byte stream to the host's SSH server, through its second serial port."""
        return self._line.connect()

    def snapshot(self, folder: Path, deadline: Deadline) -> None:
        """Save the machine at rest, without open connections, into the new folder `folder`; let the machine go on.

        Bochs rests until all is written: its own state by itself, memory by us, without zero pages.
        """
        path = str(folder).encode()
        if len(path) > MOST_PATH:
            raise LabError(
                f"{folder}: Bochs saves no machine under so long a path; set XDG_CACHE_HOME to a shorter one"
            )
        quiet = f"the host's connections to end on {self.name}"
        wait_for(quiet, lambda: self._line.is_quiet or None, deadline, self.watch)
        wait_for_rest(self._process, deadline)
        folder.mkdir()
        self._ask(path, SAVED, "saving the machine", deadline)
        with (folder / RAM).open("wb") as file:
            copy_sparse(self._memory.fileno(), file.fileno())
        shutil.copyfile(MACHINE, folder / CONFIG)
        self._control.send(GO_ON)

    def stop(self) -> None:
        """End Bochs, and wait for its end."""
        self._process.end()
        self._line.close()
        self._control.close()
        self._memory.close()  # it holds all that the machine has written

    def _ask(self, message: bytes, wanted: bytes, what: str, deadline: Deadline) -> None:
        """Send `message` and wait for the answer. Raises LabError for any answer but `wanted`."""
        self._control.setblocking(False)
        self._control.send(message)

        def answer() -> bytes | None:
            try:
                return self._control.recv(64) or None  # empty where Bochs has ended, as `watch` will find
            except (BlockingIOError, ConnectionResetError):
                return None

        got = wait_for(f"{what} of {self.name}", answer, deadline, self.watch)
        if got != wanted:
            raise self._with_evidence(LabError(f"{self.name}: {what} failed: Bochs answers {got!r}"))

    def _with_evidence(self, error: LabError) -> LabError:
        """Return the same error with all that is known of the machine."""
        return type(error)(str(error), self._process.evidence())
