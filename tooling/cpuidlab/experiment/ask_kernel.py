"""A direct question to a kernel, by behaviour: what does it answer to the identical model, what to a changed one?"""

import json
from dataclasses import asdict
from pathlib import Path

from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import made
from cpuidlab.base.deadline import Deadline
from cpuidlab.experiment.experiment import Story
from cpuidlab.experiment.observation import Probe
from cpuidlab.kvm import kmsg
from cpuidlab.kvm.warning import WARNING_LEVEL, WARNING_LINES
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.host_config import Setup
from cpuidlab.rig.rig import Stage
from cpuidlab.rig.snapshots import guest_snapshot, open_rig

PROFILE = "small"
CHANGE = "maxphyaddr=36"
SECONDS = 60.0
PROBES = Kind("probes", cost=10)


def probe(setup: Setup) -> Probe:
    """Ask a thawed rig once, on vCPU 0 of a running guest; the answer is kept in the cache beside the rig it came from.

    Raises LabError where the rig fails.
    """
    rig = guest_snapshot(setup, PROFILES[PROFILE])
    folder = made(PROBES, setup.name, {"rig": rig.name}, lambda new: _ask_into(setup, new / "probe.json"))
    return Probe(**json.loads((folder / "probe.json").read_text()))


def _ask_into(setup: Setup, file: Path) -> None:
    with open_rig(setup, Stage.GUEST_READY, PROFILE, Deadline.after(SECONDS)) as rig:
        story = Story(rig)
        answers, lines = [], []
        for change in ("", CHANGE):
            before = kmsg.mark(kmsg.parse(rig.files()["host-log"]))
            answers.append(story.set(change, vcpus=[0]))
            new = kmsg.since(kmsg.parse(rig.files()["host-log"]), before)
            lines.append(sum(bool(kmsg.matching(new, line, WARNING_LEVEL)) for line in WARNING_LINES))
    file.write_text(json.dumps(asdict(Probe(answers[0], answers[1], lines[0], lines[1]))) + "\n")
