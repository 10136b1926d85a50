"""The hosts that `all` stands for: what the archive holds decides, nobody keeps a list."""

from collections.abc import Iterable, Sequence

from cpuidlab.base.errors import UsageError
from cpuidlab.judge import eras
from cpuidlab.kernels import catalogue, patches
from cpuidlab.kernels.catalogue import CatalogueRow
from cpuidlab.kernels.patches import Patch
from cpuidlab.kernels.version import Version, upstream

ALL = "all"


def expand(specs: Sequence[str]) -> tuple[str, ...]:
    """The specs with `all` replaced by every host there is; UsageError where the archive holds none."""
    if ALL not in specs:
        return tuple(specs)
    every = every_host(catalogue.catalogue(), patches.named().values(), edges())
    if not every:
        raise UsageError("--hosts all: no kernel is known that can boot; 'cpuidlab kernels --refresh' asks the archive")
    return tuple(dict.fromkeys(word for spec in specs for word in (every if spec == ALL else (spec,))))


def every_host(rows: Iterable[CatalogueRow], known: Iterable[Patch], borders: Iterable[Version]) -> tuple[str, ...]:
    """Every series that can boot, oldest first, each with the point releases that enclose a border between two eras
    inside it, and with the project's patches for it. Release candidates do not count: they come and go."""
    usable: dict[tuple[int, int], dict[Version, None]] = {}
    newest: dict[tuple[int, int], tuple[bool, Version]] = {}  # what a series means: a suite of the user's counts most
    for row in rows:
        if row.lack is None and "~rc" not in row.version:
            number = upstream(row.version)
            series = number[:2]
            usable.setdefault(series, {})[number] = None
            newest[series] = max((bool(row.table), number), newest.get(series, (False, number)))
    named, found = list(known), list[str]()
    for series, points in sorted(usable.items()):
        name = "{}.{}".format(*series)
        around = {point for border in borders if border[:2] == series for point in _around(border, points)}
        found += ["{}.{}.{}".format(*point) for point in sorted(around - {newest[series][1]})]
        found += [name, *(f"{name}+{patch.name}" for patch in named if name in patch.series)]
    return tuple(found)


def edges() -> frozenset[Version]:
    """The releases at which one era ends and another begins."""
    return frozenset(part.start[:3] for era in eras.eras() for part in era.releases)


def _around(border: Version, points: Iterable[Version]) -> tuple[Version, ...]:
    """The last of the points before the border and the first from it on, as far as there are any."""
    before, after = [p for p in points if p < border], [p for p in points if p >= border]
    return (*([max(before)] if before else []), *([min(after)] if after else []))
