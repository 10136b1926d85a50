"""What a rig needs of the machine that carries its host, whatever that machine is."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from cpuidlab.base.deadline import Deadline
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.rig.keys import Keys
from cpuidlab.rig.streams import Stream


@dataclass(frozen=True)
class Boot:
    """What a nested host boots: kernel and initramfs as files, the kernel's command line; accelerator and CPU for QEMU.

    `initrd` is None for a host that is only restored: it does not read its initramfs again.
    """

    kernel: Path
    initrd: Path | None
    words: str
    accel: str
    cpu: str


class HostSetup(Protocol):
    """What is known of a host, and of the guest on it, before anything runs."""

    @property
    def kernel(self) -> Kernel:
        """The kernel under test."""

    @property
    def paging(self) -> str:
        """The paging mode: npt, ept or shadow."""

    @property
    def guest_kernel(self) -> Kernel:
        """The guest's kernel."""

    @property
    def keys(self) -> Keys:
        """The SSH keys of the lab's own VMs."""

    @property
    def name(self) -> str:
        """The host's name in messages and in the cache, such as `5.10+warning-npt`."""

    @property
    def column(self) -> str:
        """The host's name in the matrix: that of its kernel, and what carries it where that is not the usual."""

    @property
    def accel(self) -> str:
        """What carries the host, for the results."""

    @property
    def boots_guests(self) -> bool:
        """Tell whether the guest boots for each test, for no snapshot can be restored."""

    @property
    def patience(self) -> float:
        """How many times as long as on a host under QEMU everything may take."""

    @property
    def identity(self) -> str:
        """Changes with whatever a result depends on beside the lab itself."""


class HostShell(Protocol):
    """What a rig uses of its host once it is in: programs there, and what listens there for the lab."""

    def run(self, command: str, deadline: Deadline, check: bool = True) -> str:
        """Run a shell command to its end, and return what it printed.

        Raises LabError where the command does not end in time and, with `check`, where it fails.
        """

    def open_program(self, command: str, deadline: Deadline) -> Stream:
        """Start a program of the lab's, and return a byte stream to its standard input and output."""

    def open_tcp(self, port: int, deadline: Deadline) -> Stream:
        """Return a byte stream to a port of the host's loopback."""

    def close(self) -> None:
        """Let go of the connection."""


class Machine(Protocol):
    """A machine with the kernel under test. Every method raises LostVMError where the machine is gone."""

    name: str

    def watch(self) -> None:
        """Raise LostVMError if the machine has ended or cannot be reached, or its kernel has panicked."""

    def console(self) -> str:
        """Return everything that the machine has printed on its console, as far as the lab sees that."""

    def stop(self) -> None:
        """End what the lab has started: the machine itself where it is a VM of the lab's."""


class HostMachine(Machine, Protocol):
    """A virtual machine with the kernel under test. It ends with the thread that started it.

    Each way to start it is a constructor of its own.
    """

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

    def snapshot(self, folder: Path, deadline: Deadline) -> None:
        """Save the machine into the new folder `folder`, and let it go on. The caller has closed its connections.

        Raises LabError where the machine cannot be saved before the deadline.
        """
