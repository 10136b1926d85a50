"""The eras: which range of kernels promises what (data in tooling/eras.toml), and the lookup by version."""

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import TOOLING
from cpuidlab.kernels.version import Version, upstream


@dataclass(frozen=True)
class Range:
    """Kernels from `start` (inclusive) until `until` (exclusive; None: still going on), begun by `commits`."""

    start: Version
    until: Version | None
    commits: tuple[str, ...]

    def __contains__(self, version: Version) -> bool:
        return self.start <= version and (self.until is None or version < self.until)


@dataclass(frozen=True)
class Era:
    """One promise; the fields are explained at the top of eras.toml."""

    name: str
    summary: str
    identical: str
    pending: str
    changed: str
    nested: str
    lines: bool
    defect: bool
    ranges: tuple[Range, ...]

    @property
    def commits(self) -> tuple[str, ...]:
        """All the commits that began this era, in order."""
        return tuple(commit for part in self.ranges for commit in part.commits)

    def later_than(self, other: "Era") -> bool:
        """Whether this era comes after `other` in history; an era that came back counts from its return."""
        return self.ranges[-1].start > other.ranges[-1].start

    def commits_after(self, other: "Era") -> tuple[str, ...]:
        """The commits that lead from `other` to this later era."""
        return next(part.commits for part in self.ranges if part.start > other.ranges[-1].start)

    def ended_by(self) -> tuple[str, ...]:
        """The commits that ended this era for good; empty where it goes on."""
        end = self.ranges[-1].until
        return next((part.commits for era in eras() for part in era.ranges if part.start == end), ())


@cache
def eras() -> tuple[Era, ...]:
    """Every era in order of history, as `later_than` has it."""
    table = tomllib.loads((TOOLING / "eras.toml").read_text())
    return tuple(sorted((_era(row) for row in table["era"]), key=lambda era: era.ranges[-1].start))


def era(name: str) -> Era:
    """The era of that name; UsageError where there is none."""
    for one in eras():
        if one.name == name:
            return one
    raise UsageError(f"no era is named {name!r}; known: {', '.join(one.name for one in eras())}")


def predict(version: str) -> Era:
    """The era that a kernel's upstream version promises, from `uname -r` or a package version.

    A release candidate counts as the release it leads to: 5.14-rc1 is 5.14. What a distribution has backported cannot
    be seen here; the probe tells. Raises UsageError where no version can be read.
    """
    number = upstream(version)
    return next(one for one in eras() if any(number in part for part in one.ranges))


def _era(row: dict[str, Any]) -> Era:
    ranges = tuple(
        Range(upstream(part["from"]), upstream(part["until"]) if "until" in part else None, tuple(part["commits"]))
        for part in row["ranges"]
    )
    return Era(
        name=row["name"],
        summary=row["summary"],
        identical=row["identical"],
        pending=row["pending"],
        changed=row["changed"],
        nested=row.get("nested", "accepted"),
        lines=row.get("lines", False),
        defect=row.get("defect", False),
        ranges=ranges,
    )
