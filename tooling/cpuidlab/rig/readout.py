"""Read files of a VM in one go, by its program `readout` (guests/readout.c)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cpuidlab.base.deadline import Deadline
from cpuidlab.rig.host_machine import HostShell

if TYPE_CHECKING:
    from cpuidlab.rig.ssh import Ssh


def read_files(vm: Ssh | HostShell, paths: Mapping[str, str], deadline: Deadline) -> dict[str, str]:
    """Return the text of each file by its name in `paths`. A file that is not there is empty.

    Raises LabError where the VM does not answer.
    """
    words = " ".join(f"{name}={path}" for name, path in paths.items())
    text = vm.run(f"readout {words}", deadline)
    return dict(part.split("\n", 1) for part in text.split("\x1e")[1:])
