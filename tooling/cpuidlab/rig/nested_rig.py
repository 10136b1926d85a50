"""A rig whose host is a virtual machine of the lab's own: it boots any kernel, and can be saved and restored."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError
from cpuidlab.rig.guest_config import NESTED, Profile
from cpuidlab.rig.host_config import Setup
from cpuidlab.rig.host_machine import HostMachine
from cpuidlab.rig.rig import GuestMark, GuestStart, Rig

if TYPE_CHECKING:
    from cpuidlab.rig.ssh import Ssh

MARK = "guest-mark.json"  # in a snapshot


class NestedRig(Rig):
    """A nested host and its guest."""

    setup: Setup
    machine: HostMachine

    def __init__(self, setup: Setup, machine: HostMachine, deadline: Deadline) -> None:
        """Take over a virtual machine that runs."""
        super().__init__(setup, machine, NESTED, deadline)
        self._host: Ssh | None = None

    @classmethod
    def start(cls, setup: Setup, deadline: Deadline) -> Self:
        """Start the host cold. The rig is at no stage yet: its host boots."""
        return cls(setup, setup.machine.start(f"host {setup.name}", setup.boot, deadline), deadline)

    @classmethod
    def restore(cls, setup: Setup, snapshot: Path, deadline: Deadline) -> Self:
        """Start a copy of a saved rig. The copy cannot be saved again."""
        return cls._restored(setup, setup.machine.restore, snapshot, deadline)

    @classmethod
    def restore_copy(cls, setup: Setup, snapshot: Path, deadline: Deadline) -> Self:
        """Start a copy of a saved rig that can be saved again, for the next stage."""
        return cls._restored(setup, setup.machine.restore_copy, snapshot, deadline)

    @classmethod
    def _restored(cls, setup: Setup, restore: Callable[..., HostMachine], snapshot: Path, deadline: Deadline) -> Self:
        try:
            machine = restore(f"host {setup.name}", setup.restored, snapshot, deadline)
        except FileNotFoundError as error:
            raise LabError(f"the snapshot {snapshot} is not whole; remove {snapshot.parent} and run again") from error
        rig = cls(setup, machine, deadline)
        rig.guest_start = GuestStart.RESTORED
        if (snapshot / MARK).exists():
            rig.guest_mark = GuestMark(**json.loads((snapshot / MARK).read_text()))
        return rig

    @property
    def host(self) -> Ssh:
        """SSH to the host."""
        if self._host is None:
            connect = partial(self.machine.connect, self.deadline)
            self._host = self.log_in("host", connect, self.deadline, self.machine.watch)
        return self._host

    def launch(self, profile: Profile) -> None:
        """Start the guest's QEMU on the host."""
        self.profile = profile
        # the relays of the guest's first QEMU serve the one that takes over its state
        self.host.run(profile.start_command(self.layout) if profile.incoming else profile.command(), self.deadline)

    def write_setting(self, path: str, value: str) -> None:
        """Write a setting of the host's kernel, such as a module's parameter below /sys."""
        self.host.run(f"echo {shlex.quote(value)} >{shlex.quote(path)}", self.deadline)

    def snapshot(self, folder: Path) -> None:
        """Save the rig into the new folder `folder`, all connections closed, and let the rig go on."""
        self.hang_up()
        self.machine.snapshot(folder, self.deadline)
        (folder / MARK).write_text(json.dumps(asdict(self.guest_mark)) + "\n")

    def hang_up(self) -> None:
        """Close every connection into the rig. The next use opens a new one."""
        super().hang_up()
        if self._host is not None:
            self._host.close()
        self._host = None
