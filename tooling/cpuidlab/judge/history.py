"""Find the eras that a kernel may belong to, by its place in upstream's history."""

from collections.abc import Sequence
from datetime import date

from cpuidlab.judge.eras import Era, Range, eras
from cpuidlab.kernels.version import Place, Point


def at(point: Point) -> tuple[Era, Range]:
    """The era of a point in upstream's history, and its range there."""
    return next((one, part) for one in eras() for part in one.ranges if point in part)


def possible(place: Place) -> tuple[tuple[Era, Range], ...]:
    """The eras that a kernel at `place` may belong to, oldest first, each with its range."""
    if place.kind == "series":
        parts = [(one, part) for one in eras() for part in one.ranges]
        return _distinct([row for row in parts if row[1].meets(place.first, place.last)])
    if place.snapshot is None:
        return _distinct([at(place.first), at(place.last)])
    return _distinct(_on_day(place, place.snapshot))


def _on_day(place: Place, day: date) -> list[tuple[Era, Range]]:
    """The eras of a tree that tells its day: it has what mainline had on the day before.

    A snapshot of that day itself may have it. linux-next may have what was applied to its branches, too.
    """
    sure, maybe = at(place.first), list[tuple[Era, Range]]()
    dated = [part for one in eras() for part in one.ranges if part.merged and part.start > sure[1].start]
    for part in sorted(dated, key=lambda part: part.start):
        assert part.applied and part.merged  # noqa: S101  eras.toml names both or none
        if day > part.merged:
            sure, maybe = at(part.start), []
        elif day >= (part.applied if place.kind == "next" else part.merged):
            maybe.append(at(part.start))
    return [sure, *maybe]


def _distinct(rows: Sequence[tuple[Era, Range]]) -> tuple[tuple[Era, Range], ...]:
    """Each era once, with its oldest range, oldest first."""
    distinct: dict[str, tuple[Era, Range]] = {}
    for row in sorted(rows, key=lambda row: row[1].start):
        distinct.setdefault(row[0].name, row)
    return tuple(distinct.values())
