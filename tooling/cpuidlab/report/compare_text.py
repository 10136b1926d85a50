"""What changed between two matrices, in words: for a terminal, a mail and the page."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cpuidlab.base.error_text import first_line, printable
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell, Place, Row, seen_in_words
from cpuidlab.report.compare import Change, Changes, Move
from cpuidlab.report.gist import gist
from cpuidlab.report.matrix import label


@dataclass(frozen=True)
class Section:
    """One kind of change with its lines; `tone` is the page's: "bad", "good" or ""."""

    title: str
    lines: tuple[str, ...]
    tone: str = ""


@dataclass(frozen=True)
class Comparison:
    """A comparison in words: one sentence, and a section for each kind of change that there is."""

    summary: str
    sections: tuple[Section, ...]


def comparison_of(changes: Changes) -> Comparison:
    """Put the changes into words."""
    sections = (
        Section("Got worse", _cells(changes.worse, changes.moved), "bad"),
        Section("Got better", _cells(changes.better, changes.moved), "good"),
        Section("Another outcome, the same verdict", _cells(changes.outcome, changes.moved)),
        Section("Kernels that moved", tuple(_move(move) for move in changes.moved)),
        Section("No longer known: this says nothing about the kernel", _cells(changes.lost, changes.moved)),
        Section("Known again", _cells(changes.regained, changes.moved)),
        Section("New promises", tuple(f"{label(row)}{_verdicts_at(changes, row)}" for row in changes.new_promises)),
        Section("Promises that are gone", tuple(label(row) for row in changes.gone_promises)),
        Section("New hosts", tuple(f"{' '.join(place)}{_verdicts_at(changes, place)}" for place in changes.new_hosts)),
        Section("Hosts that are gone", _places(changes.lost_hosts)),
    )
    return Comparison(_summary(changes), tuple(section for section in sections if section.lines))


def text(comparison: Comparison) -> str:
    """Return the sentence, then the sections, for a terminal or a mail.

    No control characters are in the text, whatever a file holds.
    """
    lines = [comparison.summary]
    for section in comparison.sections:
        lines += ["", f"{section.title}:", *(f"  {line}" for line in section.lines)]
    return "\n".join(printable(line) for line in lines)


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
    """Return a line for each change; the places of one and the same change are joined."""
    moves = {move.host for move in moved}
    alike: dict[tuple[object, ...], list[Change]] = {}
    for change in changed:
        key = (change.cell.case, change.cell.route, _seen(change.old), _seen(change.new), change.cell.host in moves)
        alike.setdefault(key, []).append(change)
    return tuple(_line(changes, has_moved=changes[0].cell.host in moves) for changes in alike.values())


def _seen(cell: Cell | None) -> object:
    """What two cells must share to be told in one line."""
    return (cell.verdict, gist(cell.facts)) if cell else None


def _line(changes: Sequence[Change], has_moved: bool) -> str:
    """Tell changes that are alike."""
    cell, new = changes[0].cell, changes[0].new
    places = ", ".join(_places((change.cell.host, change.cell.paging) for change in changes))
    kernel = "" if has_moved else " (same kernel)"
    reason = f": {first_line(new.reason)}" if new and new.verdict is not Verdict.PASS else ""
    before, after = _verdict_and_words(changes[0].old), _verdict_and_words(new)
    return f"{label((cell.case, cell.route))}: {before} -> {after}, on {places}{kernel}{reason}"


def _verdict_and_words(cell: Cell | None) -> str:
    return f"{cell.verdict} {seen_in_words(cell)}".rstrip() if cell else "untested"


def _verdicts_at(changes: Changes, at: Row | Place) -> str:
    """Count the cells of each verdict in a new row or column."""
    count = Counter(c.verdict for c in changes.added if at in ((c.case, c.route), (c.host, c.paging)))
    return ": " + ", ".join(f"{count[verdict]} {verdict}" for verdict in Verdict if verdict in count)


def _places(places: Iterable[Place]) -> tuple[str, ...]:
    """Return the hosts, each with its paging modes."""
    modes: dict[str, list[str]] = {}
    for host, paging in places:
        modes.setdefault(host, []).append(paging)
    return tuple(f"{host} {'+'.join(pagings)}" for host, pagings in modes.items())


def _move(move: Move) -> str:
    parts = [f"{', '.join(move.old)} -> {', '.join(move.new)}"] if move.old != move.new else ["same build"]
    if move.old_probed != move.new_probed and move.old_probed and move.new_probed:
        parts.append(f"a probe showed {', '.join(move.old_probed)}, now {', '.join(move.new_probed)}")
    return f"{move.host}: {'; '.join(parts)}"
