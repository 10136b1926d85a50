"""The compatibility matrix: its cells laid out as a table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cpuidlab.base.errors import UsageError
from cpuidlab.judge.verdict import Verdict
from cpuidlab.kernels.version import upstream
from cpuidlab.report.cell import Cell, Place, Row
from cpuidlab.report.promise_titles import Group, group_of

# From the weightiest to the lightest: where two tests share a place in the table, the weightier is shown.
WEIGHT = {
    verdict: weight
    for weight, verdict in enumerate(
        (Verdict.FAIL, Verdict.ERROR, Verdict.WARN, Verdict.KNOWN, Verdict.SKIP, Verdict.PASS)
    )
}


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


def grid(cells: Sequence[Cell], planned: Sequence[Place] = ()) -> Grid:
    """Lay the cells out: promises by their groups, hosts by version, else in order of appearance.

    What is `planned` has its column even where nothing was tested.
    """
    places = dict.fromkeys([*planned, *((cell.host, cell.paging) for cell in cells)])
    lightest_first = sorted(cells, key=lambda cell: WEIGHT[cell.verdict], reverse=True)
    releases = {cell.host: cell.release for cell in cells if cell.release}
    rows = dict.fromkeys((cell.case, cell.route) for cell in cells)
    return Grid(
        rows=tuple(sorted(rows, key=lambda row: group_of(row[0]).rank)),
        hosts=tuple(sorted(dict.fromkeys(host for host, _ in places), key=lambda host: _age(host, releases))),
        pagings=tuple(sorted({paging for _, paging in places})),
        cells={((cell.case, cell.route), (cell.host, cell.paging)): cell for cell in lightest_first},
    )


def routes_of(cells: Iterable[Cell]) -> dict[str, str]:
    """Return the route of each case, as far as any cell tells it."""
    return {cell.case: cell.route for cell in cells if cell.route}


def routed(cell: Cell, routes: Mapping[str, str]) -> Cell:
    """Put a test that was lost before it could say its route into the row of the others of its case."""
    return cell if cell.route else replace(cell, route=routes.get(cell.case, ""))


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
    return tuple(sorted((c for c in cells if c.verdict is not Verdict.PASS), key=lambda cell: WEIGHT[cell.verdict]))


def _age(host: str, releases: Mapping[str, str]) -> tuple[bool, tuple[int, ...], str]:
    """What hosts are sorted by: their version, then their name; where nobody knows the version, last."""
    try:
        return False, upstream(releases.get(host, host)), host
    except UsageError:
        return True, (), host
