"""A direct question to a kernel, by behaviour: what does it answer to the identical model, what to a changed one?"""

import json
from dataclasses import asdict
from pathlib import Path

from cpuidlab import kmsg
from cpuidlab.freezer import guest_frozen, open_rig
from cpuidlab.observation import Probe
from cpuidlab.profiles import PROFILES
from cpuidlab.setups import Setup
from cpuidlab.store import made
from cpuidlab.story import Story
from cpuidlab.waiting import Deadline
from cpuidlab.warning import WARNING_LEVEL, WARNING_LINES

PROFILE = "small"
CHANGE = "maxphyaddr=36"
SECONDS = 60.0


def probe(setup: Setup) -> Probe:
    """Ask a thawed rig once, on vCPU 0 of a running guest; the answer is kept in the cache beside the rig it came from.

    Raises LabError where the rig fails.
    """
    rig = guest_frozen(setup, PROFILES[PROFILE])
    folder = made("probes", setup.name, {"rig": rig.name}, lambda new: _ask_into(setup, new / "probe.json"))
    return Probe(**json.loads((folder / "probe.json").read_text()))


def _ask_into(setup: Setup, file: Path) -> None:
    with open_rig(setup, "guest_ready", PROFILE, Deadline.after(SECONDS)) as rig:
        story = Story(rig)
        answers, lines = [], []
        for change in ("", CHANGE):
            before = kmsg.mark(kmsg.parse(rig.files()["host-log"]))
            answers.append(story.set(change, vcpus=[0]))
            new = kmsg.since(kmsg.parse(rig.files()["host-log"]), before)
            lines.append(sum(bool(kmsg.matching(new, line, WARNING_LEVEL)) for line in WARNING_LINES))
    file.write_text(json.dumps(asdict(Probe(answers[0], answers[1], lines[0], lines[1]))) + "\n")
