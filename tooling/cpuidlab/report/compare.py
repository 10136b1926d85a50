"""What changed between two matrices: the kernels that moved, and what got worse or better on them.

"Worse" is said of kernels alone. A cell that is an ERROR, skipped or not there tells nothing about one: where it told
something before, that is lost coverage and said apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell, Place, Row
from cpuidlab.report.gist import gist
from cpuidlab.report.matrix import grid, routed, routes_of

Known = Mapping[tuple[Row, Place], Cell]

# From good to bad, and why each is worse than the one before it. SKIP and ERROR are no step: they tell nothing.
ORDER = {
    Verdict.PASS: "the kernel does what its version promises",
    Verdict.WARN: "it has left its version's promise, for a later one: what relied on the old one may break",
    Verdict.KNOWN: "it has a defect that its users meet; that it was to be expected helps only us",
    Verdict.FAIL: "it breaks its promise, and nobody knows why",
}
_RANK = {verdict: rank for rank, verdict in enumerate(ORDER)}


@dataclass(frozen=True)
class Change:
    """One cell that is not what it was; None stands for one that was not there."""

    old: Cell | None
    new: Cell | None

    @property
    def cell(self) -> Cell:
        """The cell as it is now, or as it was."""
        found = self.new or self.old
        assert found is not None  # noqa: S101  one of the two is there
        return found


@dataclass(frozen=True)
class Move:
    """A host whose kernel is another build than before, or whose probe shows another era."""

    host: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    old_probed: tuple[str, ...]
    new_probed: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """Everything that changed, each cell in one group at most. `compared` cells told something both times.

    `added` are the cells of new promises and new hosts.
    """

    moved: tuple[Move, ...]
    worse: tuple[Change, ...]
    better: tuple[Change, ...]
    outcome: tuple[Change, ...]
    lost: tuple[Change, ...]
    regained: tuple[Change, ...]
    new_hosts: tuple[Place, ...]
    lost_hosts: tuple[Place, ...]
    new_promises: tuple[Row, ...]
    gone_promises: tuple[Row, ...]
    added: tuple[Cell, ...]
    compared: int

    @property
    def marked(self) -> frozenset[tuple[str, str, str]]:
        """Case, host and paging mode of each cell that changed, for the page to mark."""
        every = (*self.worse, *self.better, *self.outcome, *self.lost, *self.regained)
        return frozenset((change.cell.case, change.cell.host, change.cell.paging) for change in every)


def compare(old: Sequence[Cell], new: Sequence[Cell]) -> Changes:
    """Compare two matrices; rows and columns that only one of them has are no cells that changed."""
    routes = routes_of((*old, *new))
    before, after = grid([routed(cell, routes) for cell in old]), grid([routed(cell, routes) for cell in new])
    rows = [row for row in after.rows if row in before.rows]
    # not Grid.columns: a paging mode that was not run on one host has a column there all the same
    old_places, new_places = _places(old), _places(new)
    shared = [place for place in new_places if place in old_places]
    found: dict[str, list[Change]] = {}
    for row, place in ((row, place) for row in rows for place in shared):
        pair = Change(before.find(row, place), after.find(row, place))
        found.setdefault(_kind(pair), []).append(pair)
    kinds = {kind: tuple(found.get(kind, ())) for kind in ("worse", "better", "outcome", "lost", "regained")}
    both = [pair for pairs in found.values() for pair in pairs if _tells(pair.old) and _tells(pair.new)]
    return Changes(
        moved=_moved(old, new),
        **kinds,
        new_hosts=tuple(place for place in new_places if place not in old_places),
        lost_hosts=tuple(place for place in old_places if place not in new_places),
        new_promises=tuple(row for row in after.rows if row not in before.rows),
        gone_promises=tuple(row for row in before.rows if row not in after.rows),
        added=tuple(
            cell for (row, place), cell in after.cells.items() if row not in before.rows or place not in old_places
        ),
        compared=len(both),
    )


def _tells(cell: Cell | None) -> bool:
    """Whether a cell says anything about the kernel."""
    return cell is not None and cell.verdict in _RANK


def _kind(pair: Change) -> str:
    """Which group a cell is in; empty where there is nothing to say of it."""
    old, new = pair.old, pair.new
    if new is None or new.verdict not in _RANK:
        return "lost" if _tells(old) else ""
    if old is None or old.verdict not in _RANK:
        # it may have been broken for long; a night's ERROR must not hide it
        return "worse" if new.verdict is Verdict.FAIL else "regained"
    step = _RANK[new.verdict] - _RANK[old.verdict]
    if step:
        return "worse" if step > 0 else "better"
    return "outcome" if gist(old.facts) != gist(new.facts) else ""


def _places(cells: Sequence[Cell]) -> tuple[Place, ...]:
    """The columns that have cells, oldest host first."""
    found = {(cell.host, cell.paging) for cell in cells}
    return tuple(column for column in grid(cells).columns if column in found)


def _moved(old: Sequence[Cell], new: Sequence[Cell]) -> tuple[Move, ...]:
    known = {cell.host for cell in old}
    hosts = [host for host in grid(new).hosts if host in known]
    moves = [
        Move(host, *(_values(cells, host, name) for name in ("release", "probed") for cells in (old, new)))
        for host in hosts
    ]
    return tuple(move for move in moves if _differ(move.old, move.new) or _differ(move.old_probed, move.new_probed))


def _values(cells: Sequence[Cell], host: str, name: str) -> tuple[str, ...]:
    values = (getattr(cell, name) for cell in cells if cell.host == host)
    return tuple(sorted({value for value in values if value}))


def _differ(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    """Whether they differ; what nobody learned is no difference."""
    return bool(old and new) and old != new
