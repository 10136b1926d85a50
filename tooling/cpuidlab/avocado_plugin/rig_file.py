"""What a test's rig was and has changed: a file among the evidence, and what all tests of a job come to."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from cpuidlab.rig.rig import GuestStart, RigFacts

RIG_FILE = "rig.json"
SETTINGS_FILE = "settings.txt"


def files_of(facts: RigFacts) -> dict[str, str]:
    """Return file name -> text: the facts, and the settings for people where there are any."""
    settings = {SETTINGS_FILE: "".join(f"{told}\n" for told in facts.settings)} if facts.settings else {}
    return {RIG_FILE: json.dumps(asdict(facts), indent=1) + "\n", **settings}


def read(folder: Path) -> RigFacts | None:
    """Return the facts that a test left in its evidence folder; None where it left none that can be read."""
    try:
        data = json.loads((folder / RIG_FILE).read_text())
        return RigFacts(**data | {"guest": GuestStart(data["guest"]), "settings": tuple(map(str, data["settings"]))})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def guests(rigs: Iterable[RigFacts]) -> str:
    """Say how the guests of these rigs came to life; empty where there are none."""
    counts = Counter(facts.guest for facts in rigs)
    return ", ".join(f"{start} for {_tests(counts[start])}" for start in GuestStart if counts[start])


def troubles(rigs: Iterable[RigFacts]) -> str:
    """Say why guests could not be restored; empty where they could."""
    return "; ".join(dict.fromkeys(facts.trouble for facts in rigs if facts.trouble))


def settings(rigs: Iterable[RigFacts]) -> str:
    """Say what the tests have changed and put back; empty where that is nothing."""
    counts = Counter(told for facts in rigs for told in facts.settings)
    return "; ".join(f"{told} ({_tests(count)})" for told, count in counts.items())


def _tests(number: int) -> str:
    return f"{number} test{'' if number == 1 else 's'}"
