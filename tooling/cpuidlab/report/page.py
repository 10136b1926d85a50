"""The matrix as one self-contained page: for a screen, for a keyboard alone, and for paper."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.compare import Changes
from cpuidlab.report.compare_text import told
from cpuidlab.report.excerpts import Excerpts, reason
from cpuidlab.report.host_era import standings
from cpuidlab.report.matrix import Cell, Place, by_group, grid, remarkable, summary
from cpuidlab.report.outcome import OUTCOMES, STYLES, Outcome, outcome_of
from cpuidlab.report.promise_titles import title_of, words_of
from cpuidlab.report.render import render
from cpuidlab.report.vmm_advice import advice, leads


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


def html(
    cells: Sequence[Cell],
    *,
    header: Mapping[str, str] | None = None,
    planned: Sequence[Place] = (),
    folder: Path | None = None,
    base: str = "",
    changes: Changes | None = None,
) -> str:
    """The page. `folder` is the job's, for excerpts of the evidence; `base` leads from the page's own folder to it."""
    table, found = grid(cells, planned), advice(cells, planned)
    book = _Book(folder, base, changes)
    for cell in remarkable(cells):  # the first to have room for their excerpts
        book.number(cell)
    rows = {row: tuple(book.shown(table.find(row, column)) for column in table.columns) for row in table.rows}
    used = {shown.outcome for places in rows.values() for shown in places}
    return render(
        "matrix.html.j2",
        summary=summary(cells, planned), header=header or {}, table=table, rows=rows,
        groups=by_group(table), routes=dict.fromkeys(row[1] for row in table.rows),
        standings=standings(cells, planned), marks=_marks(cells), advices=found, leads=leads(found),
        outcomes=OUTCOMES, used=used, styles=STYLES, verdicts=dict.fromkeys(_verdicts(cells)),
        remarks=_remarks(cells, base), changes=told(changes) if changes else None, records=book.records,
        texts=[(text.title, text.text) for text in book.texts.all],
        title_of=title_of, words_of=words_of, reason=reason,
        meanings={key: (one.word, one.meaning, one.letter) for key, one in OUTCOMES.items()},
        verdict_meanings={verdict: style.meaning for verdict, style in STYLES.items()},
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


def _marks(cells: Iterable[Cell]) -> dict[str, dict[Verdict, int]]:
    """How many cells of each host a reader has to look at, for the head of its column."""
    found: dict[str, dict[Verdict, int]] = {}
    for cell in (one for one in remarkable(cells) if one.verdict is not Verdict.SKIP):
        count = found.setdefault(cell.host, {})
        count[cell.verdict] = count.get(cell.verdict, 0) + 1
    return found


def _remarks(cells: Iterable[Cell], base: str) -> list[Remark]:
    alike: dict[tuple[str, ...], list[Cell]] = {}
    for cell in remarkable(cells):
        alike.setdefault((cell.verdict, cell.case, cell.route, cell.observed), []).append(cell)
    return [
        Remark(found[0], tuple(f"{cell.host} {cell.paging}" for cell in found), _link(found[0], base))
        for found in alike.values()
    ]
