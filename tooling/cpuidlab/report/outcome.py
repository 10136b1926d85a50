"""What was seen in a cell, as one of a few outcomes, and how outcomes and verdicts look: letter, word, colours."""

from dataclasses import dataclass

from cpuidlab.experiment.facts import Facts, GuestState
from cpuidlab.experiment.note import Note
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell
from cpuidlab.report.gist import answer_of
from cpuidlab.report.matrix import Grid


@dataclass(frozen=True)
class Outcome:
    """One thing that can be seen. Letter and word are its own, so that nobody needs the colours (ink on paper).

    `look` adds a pattern to the colours: "hatched" for what says nothing about the kernel.
    """

    key: str
    letter: str
    word: str
    meaning: str
    light: tuple[str, str]
    dark: tuple[str, str]
    terminal: str
    look: str = ""


# fmt: off
OUTCOMES = {outcome.key: outcome for outcome in (
    Outcome("silent", "S", "silent", "accepted, and nothing was logged",
            ("#0b2f5c", "#d3e4f6"), ("#cfe4f8", "#17344f"), "cyan"),
    Outcome("warned", "W", "warned", "accepted, and the host's log warns",
            ("#3d2c00", "#ffe08a"), ("#ffe9b0", "#5a4500"), "yellow"),
    Outcome("refused", "R", "refused", "refused with an errno; the guest goes on",
            ("#0b4a33", "#cdeadb"), ("#c9f0da", "#12402d"), "green"),
    Outcome("partly", "P", "partly refused", "some calls were accepted and some refused",
            ("#38157a", "#e2d7f8"), ("#e2d7f8", "#3d2a6b"), "magenta"),
    Outcome("ended", "Q", "QEMU ended", "refused, and QEMU ended afterwards, with its guest",
            ("#ffffff", "#1f7a55"), ("#ffffff", "#1f7a55"), "bold green"),
    Outcome("died", "D", "guest died", "accepted, and the guest died afterwards",
            ("#ffffff", "#7d3a1c"), ("#ffffff", "#8f4520"), "bold red"),
    Outcome("harmed", "H", "guest harmed", "accepted, and the guest lives on with damage",
            ("#3d1606", "#f0b79f"), ("#ffe1d5", "#6b3620"), "red"),
    Outcome("missed", "M", "fault missed", "accepted, and KVM then misses a page fault of the guest's",
            ("#3d1606", "#f8d9cb"), ("#ffe1d5", "#532a1a"), "red"),
    Outcome("known", "K", "known defect", "as its version is known to do, and that is a defect",
            ("#ffffff", "#b0126b"), ("#ffffff", "#c2187a"), "bold white on magenta"),
    Outcome("stable", "N", "nothing set", "nothing was set, and the guest is stable",
            ("#3b4452", "#eceff3"), ("#c3cad4", "#2b313a"), "dim"),
    Outcome("other", "?", "other", "something else; open the cell",
            ("#1b1f24", "#ffffff"), ("#ffffff", "#15181c"), "bold"),
    Outcome("skipped", "–", "skipped", "does not apply here",  # noqa: RUF001
            ("#5a6472", "#f6f7f9"), ("#98a2b0", "#1d2127"), "dim"),
    Outcome("error", "E", "lab failed", "the lab failed: this says nothing about the kernel",
            ("#3f1d78", "#ffffff"), ("#d9c6ff", "#15181c"), "bold magenta", "hatched"),
    Outcome("untested", "·", "untested", "not tested: nothing is known",
            ("#6a7482", "#ffffff"), ("#8b95a3", "#15181c"), "dim", "hatched"),
)}


@dataclass(frozen=True)
class Style:
    """How a verdict is marked; the outcome has the colour of the cell."""

    mark: str
    meaning: str
    terminal: str


STYLES = {
    Verdict.FAIL: Style("✗", "a promise is broken", "bold white on red"),
    Verdict.ERROR: Style("!", "the lab failed; says nothing about the kernel", "bold magenta"),
    Verdict.WARN: Style("▲", "behaves as a later era than its version: a backport", "bold yellow"),
    Verdict.KNOWN: Style("◆", "as predicted, and what is predicted is a known defect", "bold magenta"),
    Verdict.SKIP: Style("–", "does not apply; the reason says why", "dim"),  # noqa: RUF001
    Verdict.PASS: Style("✓", "as promised", "green"),
}
# fmt: on

_BY_VERDICT = {Verdict.ERROR: "error", Verdict.SKIP: "skipped", Verdict.KNOWN: "known"}
# Of a test whose calls are no answers, such as a sweep: what it notes of all its calls together.
_BY_NOTE = {Note.ALL_REFUSED: "refused", Note.ALL_TAKEN: "silent"}


def outcome_of(cell: Cell | None) -> Outcome:
    """Return the outcome that a cell shows; None stands for a cell that was not tested."""
    if cell is None:
        return OUTCOMES["untested"]
    return OUTCOMES[_BY_VERDICT.get(cell.verdict) or _key_of(cell.facts)]


def _key_of(facts: Facts | None) -> str:
    """Say what was seen: harm to the guest before KVM's answer, KVM's answer before what the test notes."""
    if facts is None:
        return "other"
    answer = answer_of(facts)
    if facts.guest is GuestState.DIED:
        return "ended" if answer == "refused" else "died"
    if facts.guest is GuestState.UNSTABLE:
        return "harmed"
    if Note.MISSED_FAULT in facts.notes:
        return "missed"
    if answer or facts.model == "other":
        return answer or "other"
    return _BY_NOTE.get(facts.notes[0], "other") if facts.notes else "stable"


def legend(table: Grid) -> str:
    """Say what the letters and marks in this table mean."""
    cells = [table.find(row, column) for row in table.rows for column in table.columns]
    used, verdicts = {outcome_of(cell).key for cell in cells}, {cell.verdict for cell in cells if cell}
    letters = [f"{outcome.letter} {outcome.word}" for outcome in OUTCOMES.values() if outcome.key in used]
    marks = [f"{style.mark} {verdict}" for verdict, style in STYLES.items() if verdict in verdicts]
    return f"{', '.join(letters)}; {', '.join(marks)}" if cells else ""
