"""Cells of a matrix and their facts, for the selftests."""

from cpuidlab.experiment.facts import Answer, Facts, GuestState
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import Model
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell


def facts(
    *answers: str,
    lines: int = 0,
    model: Model | None = "asked",
    guest: GuestState = GuestState.STABLE,
    notes: tuple[Note, ...] = (),
) -> Facts:
    """Facts with one answer for each vCPU, and each warning line so many times."""
    each_vcpu = tuple(Answer(vcpu, answer) for vcpu, answer in enumerate(answers))
    return Facts(each_vcpu, (lines, lines), model, guest, notes=notes)


SILENT = facts("accepted", "accepted")
WARNED = facts("accepted", "accepted", lines=2)
REFUSED = facts("EINVAL", "EINVAL", model="before")
DIED = facts("accepted", "accepted", guest=GuestState.DIED)
CELL = Cell(
    "after_run/x",
    "5.10",
    "5.10.0-46",
    "npt",
    "hook",
    "tcg",
    "silent",
    "silent",
    SILENT,
    Verdict.PASS,
    "ok",
    "",
    "upstream version",
)
