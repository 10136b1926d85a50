"""What KVM's source says a first vCPU and a first KVM_RUN freeze, by version (the rules of tooling/freeze.toml)."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from cpuidlab.experiment.freeze_table import rows
from cpuidlab.judge.prediction import place_of
from cpuidlab.kernels.version import Point, bound

UNKNOWN = ("?",)
OTHER_MSRS = "other feature MSRs"


@dataclass(frozen=True)
class Rule:
    """What kernels answer from `start` (inclusive) until the next rule, by `commits`.

    `answers` is a word each phase for a call; "frozen" or "not frozen", and "in L2 too", for a feature MSR.
    """

    start: Point
    answers: tuple[str, ...]
    commits: tuple[str, ...]


@cache
def rules(name: str) -> tuple[Rule, ...]:
    """Return the rules of a call, or of a feature MSR, the oldest first."""
    row = next(each for table in ("call", "msr") for each in rows()[table] if each["name"] == name)
    return tuple(Rule(bound(each["from"]), _answers(each), tuple(each.get("commits", ()))) for each in row["rules"])


def _answers(row: dict[str, Any]) -> tuple[str, ...]:
    if "frozen" in row:
        return ("frozen" if row["frozen"] else "not frozen", *(("in L2 too",) if row.get("l2") else ()))
    return tuple(row["answers"].split())


def expected(name: str, release: str, version: str) -> Rule | None:
    """Return the rule for a kernel; None where its version does not tell which, or is older than all rules."""
    place = place_of(release, version)
    if place is None:
        return None
    known = rules(name)
    begun = [rule for rule in known if rule.start <= place.first]
    later = [rule for rule in known if place.first < rule.start <= place.last]
    if not begun or begun[-1].answers == UNKNOWN or any(rule.answers != begun[-1].answers for rule in later):
        return None
    return begun[-1]


def commits_between(name: str, one: Rule, other: Rule) -> tuple[str, ...]:
    """Return the commits that lead from one rule of a call or MSR to another one."""
    first, last = sorted((one.start, other.start))
    found = (commit for rule in rules(name) if first < rule.start <= last for commit in rule.commits)
    return tuple(dict.fromkeys(found))


def is_made_by_kvm(index: int) -> bool:
    """Tell whether KVM makes the feature MSR itself, and takes no value from userspace."""
    return any(index in row.get("made_by_kvm", ()) for row in rows()["msr"])


def msr_name(index: int) -> str:
    """Return the name of a feature MSR in the table; OTHER_MSRS where it has none."""
    for row in rows()["msr"]:
        if "first" in row and row["first"] <= index <= row.get("last", row["first"]):
            return str(row["name"])
    return OTHER_MSRS
