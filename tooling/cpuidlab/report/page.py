"""The matrix as one self-contained page: for a screen, for a keyboard alone, and for paper."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell
from cpuidlab.report.compare import Changes
from cpuidlab.report.compare_text import comparison_of
from cpuidlab.report.excerpts import Excerpts, reason
from cpuidlab.report.gist import gist
from cpuidlab.report.outcome import OUTCOMES, STYLES, Outcome, outcome_of
from cpuidlab.report.promise_titles import title_of, words_of
from cpuidlab.report.render import render
from cpuidlab.report.report import Report


@dataclass(frozen=True)
class Shown:
    """One place of the table: what it shows, and the number of what opens; `new` where it changed since last time."""

    outcome: Outcome
    cell: Cell | None
    number: int | None = None
    link: str = ""
    new: bool = False


@dataclass(frozen=True)
class Remark:
    """Cells that say the same of the same promise, told once."""

    cell: Cell
    places: tuple[str, ...]
    link: str


def html(report: Report, *, folder: Path | None = None, base: str = "", changes: Changes | None = None) -> str:
    """Return the page.

    `folder` is the job's, for excerpts of the evidence; `base` leads from the page's own folder to the job's.
    """
    book = _Book(folder, base, changes)
    for cell in report.remarkable:  # the first to have room for their excerpts
        book.number(cell)
    table = report.grid
    rows = {row: tuple(book.shown(table.find(row, column)) for column in table.columns) for row in table.rows}
    return render(
        "matrix.html.j2",
        report=report, table=table, rows=rows, routes=dict.fromkeys(row[1] for row in table.rows),
        used={shown.outcome for places in rows.values() for shown in places},
        marks=_marks(report.remarkable), verdicts=_verdicts(report.cells),
        remarks=_remarks(report.remarkable, base), changes=comparison_of(changes) if changes else None,
        outcomes=OUTCOMES, styles=STYLES, title_of=title_of, words_of=words_of, reason=reason,
        data={
            "records": book.records,
            "texts": [(text.title, text.text) for text in book.texts.all],
            "outcomes": {key: (outcome.word, outcome.meaning, outcome.letter) for key, outcome in OUTCOMES.items()},
            "verdicts": {verdict: style.meaning for verdict, style in STYLES.items()},
        },
    )  # fmt: skip


class _Book:
    """What opens with a cell, under a number; the page's script reads it."""

    def __init__(self, folder: Path | None, base: str, changes: Changes | None) -> None:
        self.texts = Excerpts(folder)
        self.records: list[tuple[str, tuple[int, ...]]] = []  # reason, numbers of excerpts
        self._numbers: dict[Cell, int] = {}
        self._base = base
        self._new = changes.marked if changes else frozenset[tuple[str, str, str]]()

    def number(self, cell: Cell) -> int:
        if cell not in self._numbers:
            self._numbers[cell] = len(self.records)
            self.records.append((reason(cell), self.texts.of(cell)))
        return self._numbers[cell]

    def shown(self, cell: Cell | None) -> Shown:
        if cell is None:
            return Shown(outcome_of(None), None)
        return Shown(outcome_of(cell), cell, self.number(cell), _link(cell, self._base), _key(cell) in self._new)


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.case, cell.host, cell.paging


def _link(cell: Cell, base: str) -> str:
    """An address of the evidence; quoted, so that it is a path whatever stands in it."""
    return quote(f"{base}{cell.evidence}") if cell.evidence else ""


def _verdicts(cells: Iterable[Cell]) -> list[Verdict]:
    present = {cell.verdict for cell in cells}
    return [verdict for verdict in STYLES if verdict in present]


def _marks(remarkable: Iterable[Cell]) -> dict[str, dict[Verdict, int]]:
    """Count, for the head of each host's column, the cells that a reader has to look at."""
    counts: dict[str, dict[Verdict, int]] = {}
    for cell in remarkable:
        if cell.verdict is not Verdict.SKIP:
            of_host = counts.setdefault(cell.host, {})
            of_host[cell.verdict] = of_host.get(cell.verdict, 0) + 1
    return counts


def _remarks(remarkable: Iterable[Cell], base: str) -> list[Remark]:
    """Join the cells of one promise that have the same verdict and tell the same."""
    alike: dict[tuple[object, ...], list[Cell]] = {}
    for cell in remarkable:
        alike.setdefault((cell.verdict, cell.case, cell.route, gist(cell.facts)), []).append(cell)
    return [
        Remark(cells[0], tuple(f"{cell.host} {cell.paging}" for cell in cells), _link(cells[0], base))
        for cells in alike.values()
    ]
