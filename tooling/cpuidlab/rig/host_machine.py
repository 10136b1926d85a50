"""What a rig needs of the machine that carries its host, whatever that machine is."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from cpuidlab.base.deadline import Deadline


@dataclass(frozen=True)
class Boot:
    """What a nested host boots: kernel and initramfs as files, the kernel's command line, and the CPU in QEMU's words.

    `initrd` is None for a host that is only restored: it does not read its initramfs again.
    """

    kernel: Path
    initrd: Path | None
    words: str
    cpu: str


class HostMachine(Protocol):
    """A machine with the kernel under test. It ends with the thread that started it.

    Each way to start it is a constructor of its own. Every method raises LostVMError where the machine has ended.
    """

    name: str

    @classmethod
    def start(cls, name: str, boot: Boot, deadline: Deadline) -> Self:
        """Boot cold. Return as soon as the machine runs; `console` shows how far its boot is."""

    @classmethod
    def restore(cls, name: str, boot: Boot, snapshot: Path, deadline: Deadline) -> Self:
        """Start a copy of the machine that `snapshot` saved into that folder, started from the same `boot`.

        The machine shares the snapshot's memory until it writes, so it cannot be saved again.
        Raises FileNotFoundError where the folder is not whole, LabError where the state cannot be loaded.
        """

    @classmethod
    def restore_copy(cls, name: str, boot: Boot, snapshot: Path, deadline: Deadline) -> Self:
        """Do the same with memory of the machine's own: slower, but the machine can be saved again."""

    def connect(self, deadline: Deadline) -> socket.socket:
        """Return a byte stream to the host's SSH server."""

    def watch(self) -> None:
        """Raise LostVMError if the machine has ended, or its kernel has panicked or cannot boot."""

    def console(self) -> str:
        """Return everything that the host has printed on its serial console."""

    def snapshot(self, folder: Path, deadline: Deadline) -> None:
        """Save the machine into the new folder `folder`, and let it go on. The caller has closed its connections.

        Raises LabError where the machine cannot be saved before the deadline.
        """

    def stop(self) -> None:
        """End the machine, and wait for its end."""
