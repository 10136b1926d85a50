"""The eras and properties of kernels, and the ranges that have them (data in tooling/eras.toml)."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from typing import Any

from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import TOOLING
from cpuidlab.kernels.version import Place, Point, bound, point_text

REINIT = "reinit"  # the property that tells of 49c6f8756cdf


@dataclass(frozen=True)
class Range:
    """Kernels from `start` (inclusive) until `until` (exclusive; None: still going on), begun by `commits`.

    `applied` is the day on which linux-next may have got the commits, `merged` the day on which mainline did.
    """

    start: Point
    until: Point | None
    commits: tuple[str, ...]
    applied: date | None = None
    merged: date | None = None

    def __contains__(self, point: Point) -> bool:
        return self.start <= point and (self.until is None or point < self.until)

    def meets(self, first: Point, last: Point) -> bool:
        """Whether a kernel from `first` to `last`, both included, lies in this range."""
        return self.start <= last and (self.until is None or self.until > first)

    @property
    def text(self) -> str:
        """Such as `6.15 until 6.18.3`, `7.0 and later` or `before 5.14`."""
        if self.until is None:
            return f"{point_text(self.start)} and later"
        until = point_text(self.until)
        return f"{point_text(self.start)} until {until}" if self.start > (0, 0, 0, 0) else f"before {until}"


@dataclass(frozen=True)
class Era:
    """One promise; the fields are explained at the top of eras.toml.

    `reinit` is no part of the promise: whether the kernel initializes its MMUs anew at each CPUID update, None where
    nobody knows. Nor are `properties`, the others of the table, by name. A prediction sets both for its kernel.
    """

    name: str
    summary: str
    identical: str
    pending: str
    changed: str
    flags: str
    nested: str
    lines: bool
    defect: bool
    leaks: bool
    ranges: tuple[Range, ...]
    reinit: bool | None = field(default=None, compare=False)
    properties: Mapping[str, bool | None] = field(default_factory=dict, compare=False)

    @property
    def commits(self) -> tuple[str, ...]:
        """All the commits that began this era, in order."""
        return tuple(dict.fromkeys(commit for part in self.ranges for commit in part.commits))

    @property
    def releases(self) -> tuple[Range, ...]:
        """The ranges as far as they hold releases: a border among candidates is moved to their release."""
        found: list[Range] = []
        for part in self.ranges:
            start, until = _release(part.start), _release(part.until) if part.until else None
            if found and found[-1].until == start:
                found[-1] = replace(found[-1], until=until)
            elif start != until:
                found.append(replace(part, start=start, until=until))
        return tuple(found)

    def later_than(self, other: "Era") -> bool:
        """Whether this era comes after `other` in history; an era that came back counts from its return."""
        return self.ranges[-1].start > other.ranges[-1].start

    def commits_after(self, other: "Era") -> tuple[str, ...]:
        """The commits that lead from `other` to this later era."""
        return next(part.commits for part in self.ranges if part.start > other.ranges[-1].start)

    def has(self, name: str) -> bool | None:
        """Whether the kernel has a property of the table; None where nobody knows."""
        return self.properties.get(property_named(name).name)

    def ended_by(self) -> tuple[str, ...]:
        """The commits that ended this era for good; empty where it goes on."""
        end = self.ranges[-1].until
        return next((part.commits for era in eras() for part in era.ranges if part.start == end), ())


@dataclass(frozen=True)
class Property:
    """Something beside the answers that a range of kernels does."""

    name: str
    summary: str
    ranges: tuple[Range, ...]

    def of(self, place: Place) -> bool | None:
        """Whether the kernels at `place` have the property; None where some have it and some have not."""
        first, last = (any(point in part for part in self.ranges) for point in (place.first, place.last))
        inside = place.kind == "series" and any(place.first < part.start <= place.last for part in self.ranges)
        return first if first == last and not inside else None


@cache
def eras() -> tuple[Era, ...]:
    """Every era in order of history, as `later_than` has it."""
    reinit = property_named(REINIT).ranges
    found = [_era(row) for row in _table()["era"]]
    found = [replace(each, reinit=any(each.ranges[0].start in part for part in reinit)) for each in found]
    return tuple(sorted(found, key=lambda era: era.ranges[-1].start))


@cache
def properties() -> tuple[Property, ...]:
    """Every property, in the order of the table."""
    return tuple(Property(row["name"], row["summary"], _ranges(row["ranges"])) for row in _table()["property"])


def era(name: str) -> Era:
    """The era of that name; UsageError where there is none."""
    for one in eras():
        if one.name == name:
            return one
    raise UsageError(f"no era is named {name!r}; known: {', '.join(one.name for one in eras())}")


def property_named(name: str) -> Property:
    """The property of that name; a name that is not in the table is a mistake in the code."""
    return next(each for each in properties() if each.name == name)


def _release(point: Point) -> Point:
    """The bound of the release that a candidate leads to."""
    return *point[:3], 0


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads((TOOLING / "eras.toml").read_text())


def _ranges(rows: Sequence[dict[str, Any]]) -> tuple[Range, ...]:
    return tuple(
        Range(
            bound(row["from"]),
            bound(row["until"]) if "until" in row else None,
            tuple(row["commits"]),
            row.get("applied"),
            row.get("merged"),
        )
        for row in rows
    )


def _era(row: dict[str, Any]) -> Era:
    return Era(
        name=row["name"],
        summary=row["summary"],
        identical=row["identical"],
        pending=row["pending"],
        changed=row["changed"],
        flags=row.get("flags", row["changed"]),
        nested=row.get("nested", "accepted"),
        lines=row.get("lines", False),
        defect=row.get("defect", False),
        leaks=row.get("leaks", False),
        ranges=_ranges(row["ranges"]),
    )
