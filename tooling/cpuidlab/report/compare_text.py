"""What changed between two matrices, in words: for a terminal, a mail and the page."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cpuidlab.base.error_text import first_line
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.compare import Change, Changes, Move
from cpuidlab.report.matrix import Cell, Place, Row


@dataclass(frozen=True)
class Section:
    """One kind of change with its lines; `tone` is the page's: "bad", "good" or ""."""

    title: str
    lines: tuple[str, ...]
    tone: str = ""


@dataclass(frozen=True)
class Told:
    """A comparison in words: one sentence, and a section for each kind of change that there is."""

    summary: str
    sections: tuple[Section, ...]


def told(changes: Changes) -> Told:
    """The comparison in words."""
    sections = (
        Section("Got worse", _cells(changes.worse, changes.moved), "bad"),
        Section("Got better", _cells(changes.better, changes.moved), "good"),
        Section("Another outcome, the same verdict", _cells(changes.outcome, changes.moved)),
        Section("Kernels that moved", tuple(_move(move) for move in changes.moved)),
        Section("No longer known: this says nothing about the kernel", _cells(changes.lost, changes.moved)),
        Section("Known again", _cells(changes.regained, changes.moved)),
        Section("New promises", tuple(f"{_row(row)}{_found(changes, row)}" for row in changes.new_promises)),
        Section("Promises that are gone", tuple(_row(row) for row in changes.gone_promises)),
        Section("New hosts", tuple(f"{_column(at)}{_found(changes, at)}" for at in changes.new_hosts)),
        Section("Hosts that are gone", _places(changes.lost_hosts)),
    )
    return Told(_summary(changes), tuple(section for section in sections if section.lines))


def text(comparison: Told) -> str:
    """For a terminal or a mail: the sentence, then the sections; no control characters, whatever a file holds."""
    lines = [comparison.summary]
    for section in comparison.sections:
        lines += ["", f"{section.title}:", *(f"  {line}" for line in section.lines)]
    return "\n".join("".join(sign if sign.isprintable() else " " for sign in line) for line in lines)


def _summary(changes: Changes) -> str:
    if not changes.compared and not changes.worse:
        return "Nothing could be compared: no cell told something both times."
    hosts = dict.fromkeys(change.cell.host for change in changes.worse)
    parts = [f"{_count(changes.worse)} got worse, on {', '.join(hosts)}." if hosts else "Nothing got worse."]
    for changed, what in ((changes.better, "got better"), (changes.outcome, "changed in outcome alone")):
        parts += [f"{_count(changed)} {what}."] if changed else []
    if changes.moved:
        parts.append(f"Moved: {', '.join(move.host for move in changes.moved)}.")
    if changes.lost or changes.lost_hosts:
        gone = [f"{_count(changes.lost)}"] if changes.lost else []
        gone += [f"all of {line}" for line in _places(changes.lost_hosts)]
        parts.append(f"No longer known: {', '.join(gone)}.")
    return " ".join([*parts, f"Compared: {changes.compared} cells."])


def _count(changed: Sequence[Change]) -> str:
    return f"{len(changed)} cell{'s' if len(changed) > 1 else ''}"


def _cells(changed: Iterable[Change], moved: Iterable[Move]) -> tuple[str, ...]:
    """A line for each change; where it is the same in many places the places are joined."""
    moves = {move.host for move in moved}
    alike: dict[tuple[str, ...], list[Change]] = {}
    for change in changed:
        cell = change.cell
        why = "" if cell.host in moves else "same kernel"
        alike.setdefault((cell.case, cell.route, _said(change.old), _said(change.new), why), []).append(change)
    return tuple(
        f"{_row((case, route))}: {before} -> {after}, on {', '.join(_places(_of(found)))}"
        f"{f' ({why})' if why else ''}{_reason(found[0].new, after)}"
        for (case, route, before, after, why), found in alike.items()
    )


def _of(changed: Iterable[Change]) -> list[Place]:
    return [(change.cell.host, change.cell.paging) for change in changed]


def _said(cell: Cell | None) -> str:
    return f"{cell.verdict} {cell.observed}".rstrip() if cell else "untested"


def _reason(cell: Cell | None, after: str) -> str:
    """Why it is no PASS now."""
    return "" if cell is None or after.startswith("PASS") else f": {first_line(cell.reason)}"


def _row(row: Row) -> str:
    return f"{row[0]} ({row[1]})" if row[1] else row[0]


def _column(place: Place) -> str:
    return " ".join(place)


def _found(changes: Changes, at: Row | Place) -> str:
    """How many cells of each verdict a new row or column has."""
    count = Counter(c.verdict for c in changes.added if at in ((c.case, c.route), (c.host, c.paging)))
    return ": " + ", ".join(f"{count[verdict]} {verdict}" for verdict in Verdict if verdict in count)


def _places(places: Iterable[Place]) -> tuple[str, ...]:
    """Hosts, each with its paging modes."""
    found: dict[str, list[str]] = {}
    for host, paging in places:
        found.setdefault(host, []).append(paging)
    return tuple(f"{host} {'+'.join(pagings)}" for host, pagings in found.items())


def _move(move: Move) -> str:
    parts = [f"{', '.join(move.old)} -> {', '.join(move.new)}"] if move.old != move.new else ["same build"]
    if move.old_probed != move.new_probed and move.old_probed and move.new_probed:
        parts.append(f"a probe showed {', '.join(move.old_probed)}, now {', '.join(move.new_probed)}")
    return f"{move.host}: {'; '.join(parts)}"
