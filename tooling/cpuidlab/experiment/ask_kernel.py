"""A direct question to a kernel, by behaviour: what does it answer to the identical model, what to a changed one?"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import cast

from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import made
from cpuidlab.base.deadline import Deadline
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.observation import Probe
from cpuidlab.experiment.rig_logs import LogReader
from cpuidlab.kvm import kmsg
from cpuidlab.kvm.warning import WARNING_LEVEL, WARNING_LINES
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.host_config import Setup
from cpuidlab.rig.host_machine import HostSetup
from cpuidlab.rig.rig import Stage
from cpuidlab.rig.snapshots import guest_snapshot, open_rig

PROFILE = "small"
CHANGE = "maxphyaddr=36"
SECONDS = 60.0
PROBES = Kind("probes", cost=10)


def probe(setup: HostSetup) -> Probe:
    """Ask a kernel once, on vCPU 0 of a running guest; the answer is kept in the cache.

    It holds for the snapshot that it came from; on a real machine until that boots again. Raises LabError where the
    rig fails.
    """
    rig = setup.identity if setup.boots_guests else guest_snapshot(cast(Setup, setup), PROFILES[PROFILE]).name
    folder = made(PROBES, setup.name, {"rig": rig}, lambda new: _ask_into(setup, new / "probe.json"))
    return Probe(**json.loads((folder / "probe.json").read_text()))


def _ask_into(setup: HostSetup, file: Path) -> None:
    with open_rig(setup, Stage.GUEST_READY, PROFILE, Deadline.after(SECONDS, setup.patience)) as rig:
        answer = ask(Guest(rig))
    file.write_text(json.dumps(asdict(answer)) + "\n")


def ask(guest: Guest) -> Probe:
    """Set the identical CPUID and then a changed one on vCPU 0, which has run."""
    identical, lines_identical = _answer(guest, "")
    changed, lines_changed = _answer(guest, CHANGE)
    return Probe(identical, changed, lines_identical, lines_changed)


def _answer(guest: Guest, change: str) -> tuple[str, int]:
    """KVM's answer, and how many of the two different warning lines the host logged."""
    logs = LogReader(guest.rig)
    answer = guest.set_cpuid(change, vcpus=[0])
    log = logs.read().host
    return answer, sum(bool(kmsg.matching(log, line, WARNING_LEVEL)) for line in WARNING_LINES)
