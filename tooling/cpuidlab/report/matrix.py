"""The compatibility matrix: its cells, matrix.json, the lay-out as a table and the summary in words."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.judge.verdict import Verdict
from cpuidlab.kernels.version import upstream
from cpuidlab.report.promise_titles import Group, group_of

SCHEMA = 1
_HALF = re.compile("[\ud800-\udfff]")  # JSON can hold half a character; no file and no terminal takes one


@dataclass(frozen=True)
class Cell:
    """One test on one host; a value that nobody learned is an empty string."""

    case: str
    host: str
    release: str
    paging: str
    route: str
    accel: str
    predicted: str
    probed: str
    observed: str
    verdict: Verdict
    reason: str
    evidence: str


# From the weightiest to the lightest: where two tests share a place in the table, the weightier is shown.
_WEIGHT = {
    verdict: weight
    for weight, verdict in enumerate(
        (Verdict.FAIL, Verdict.ERROR, Verdict.WARN, Verdict.KNOWN, Verdict.SKIP, Verdict.PASS)
    )
}


Row = tuple[str, str]  # case, route
Place = tuple[str, str]  # host, paging


@dataclass(frozen=True)
class Grid:
    """The cells laid out: promises down, hosts across, and every paging mode for every host."""

    rows: tuple[Row, ...]
    hosts: tuple[str, ...]
    pagings: tuple[str, ...]
    cells: Mapping[tuple[Row, Place], Cell]

    @property
    def columns(self) -> tuple[Place, ...]:
        """The columns from left to right."""
        return tuple((host, paging) for host in self.hosts for paging in self.pagings)

    def find(self, row: Row, column: Place) -> Cell | None:
        """The cell of one promise at one place; None where it was not tested."""
        return self.cells.get((row, column))

    @property
    def untested(self) -> int:
        """How many places of the table are empty."""
        return sum(self.find(row, column) is None for row in self.rows for column in self.columns)


def read(path: Path) -> tuple[Cell, ...]:
    """The cells of a matrix.json; UsageError where the file is missing or is something else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict) or set(data) != {"schema", "cells"} or not isinstance(data["cells"], list):
        raise UsageError(f"{path} is no matrix.json: it should have 'schema' and 'cells', and nothing else")
    if type(data["schema"]) is not int or data["schema"] != SCHEMA:
        raise UsageError(f"{path} has schema {data['schema']!r}; this version reads schema {SCHEMA}")
    return tuple(_cell(raw, f"{path}: cell {number}") for number, raw in enumerate(data["cells"], start=1))


def write(cells: Sequence[Cell], path: Path) -> None:
    """Write a matrix.json that `read` reads back."""
    path.write_text(json.dumps({"schema": SCHEMA, "cells": [asdict(cell) for cell in cells]}, indent=1) + "\n")


def grid(cells: Sequence[Cell], planned: Sequence[Place] = ()) -> Grid:
    """Lay the cells out: promises by their groups, hosts by version, else in order of appearance.

    What is `planned` has its column even where nothing was tested.
    """
    places = dict.fromkeys([*planned, *((cell.host, cell.paging) for cell in cells)])
    lightest_first = sorted(cells, key=lambda cell: _WEIGHT[cell.verdict], reverse=True)
    releases = {cell.host: cell.release for cell in cells if cell.release}
    rows = dict.fromkeys((cell.case, cell.route) for cell in cells)
    return Grid(
        rows=tuple(sorted(rows, key=lambda row: group_of(row[0]).rank)),
        hosts=tuple(sorted(dict.fromkeys(host for host, _ in places), key=lambda host: _age(host, releases))),
        pagings=tuple(sorted({paging for _, paging in places})),
        cells={((cell.case, cell.route), (cell.host, cell.paging)): cell for cell in lightest_first},
    )


def summary(cells: Sequence[Cell], planned: Sequence[Place] = ()) -> str:
    """One or two sentences that name every host that does not do what it promises, and what could not be tested."""
    broken = _hosts(cells, Verdict.FAIL)
    tested = tuple(dict.fromkeys(c.host for c in cells if c.verdict not in (Verdict.SKIP, Verdict.ERROR)))
    untested = grid(cells, planned).untested
    limits = ", as far as tested" if untested or _hosts(cells, Verdict.ERROR) else ""
    if not tested:
        parts = ["No host was tested."]
    elif broken:
        verb = "does" if len(broken) == 1 else "do"
        head = f"{len(broken)} of {_count(len(tested), 'host')} {verb} not do what was promised"
        parts = [f"{head}: {_list(broken, 'FAIL')}."]
    elif len(tested) == 1:
        parts = [f"The one host tested ({tested[0]}) does what it promises{limits}."]
    else:
        parts = [f"All {len(tested)} hosts do what they promise{limits}."]
    for verdict, text in _ASIDES.items():
        hosts = _hosts(cells, verdict)
        if hosts:
            parts.append(f"{text}: {_list(hosts, verdict)}.")
    return " ".join([*parts, *([f"Untested: {_count(untested, 'cell')}."] if untested else [])])


def label(row: Row) -> str:
    """A promise's name with its route."""
    case, route = row
    return f"{case} ({route})" if route else case


def by_group(table: Grid) -> dict[Group, tuple[Row, ...]]:
    """The rows of each group, in order."""
    found: dict[str, list[Row]] = {}
    for row in table.rows:
        found.setdefault(group_of(row[0]).stem, []).append(row)
    return {group_of(rows[0][0]): tuple(rows) for rows in found.values()}


def remarkable(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """The cells that are no plain PASS, the weightiest first."""
    return tuple(sorted((c for c in cells if c.verdict is not Verdict.PASS), key=lambda cell: _WEIGHT[cell.verdict]))


_ASIDES = {
    Verdict.KNOWN: "As predicted, but a known defect",
    Verdict.WARN: "Ahead of the version, by a backport",
    Verdict.ERROR: "Not all could be tested, the lab failed",
}


def _hosts(cells: Sequence[Cell], verdict: Verdict) -> dict[str, int]:
    """How many cells of that verdict each host has; oldest host first."""
    count = Counter(cell.host for cell in cells if cell.verdict is verdict)
    return {host: count[host] for host in grid(cells).hosts if host in count}


def _age(host: str, releases: Mapping[str, str]) -> tuple[bool, tuple[int, ...], str]:
    """What hosts are sorted by: their version, then their name; where nobody knows the version, last."""
    try:
        return False, upstream(releases.get(host, host)), host
    except UsageError:
        return True, (), host


def _list(hosts: Mapping[str, int], word: str) -> str:
    return ", ".join(f"{host} ({count} {word})" for host, count in hosts.items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cell(raw: object, where: str) -> Cell:
    names = {field.name for field in fields(Cell)}
    if not isinstance(raw, dict) or set(raw) != names:
        raise UsageError(f"{where} should have just these keys: {', '.join(field.name for field in fields(Cell))}")
    if not all(isinstance(value, str) for value in raw.values()):
        raise UsageError(f"{where} has a value that is no string")
    if any(_HALF.search(value) for value in raw.values()):
        raise UsageError(f"{where} has a value that is no text: half of a surrogate pair")
    if raw["verdict"] not in list(Verdict):
        raise UsageError(f"{where} has the verdict {raw['verdict']!r}; known: {', '.join(Verdict)}")
    return Cell(**{**raw, "verdict": Verdict(raw["verdict"])})
