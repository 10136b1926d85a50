"""Write the matrix as Markdown."""

from collections.abc import Sequence

from cpuidlab.base.error_text import first_line
from cpuidlab.report.cell import Cell
from cpuidlab.report.markdown_table import as_table, plain
from cpuidlab.report.matrix import label
from cpuidlab.report.outcome import STYLES, outcome_of
from cpuidlab.report.report import Report

TITLE = "# CPUID change after KVM_RUN"
ADVICE_HEAD = ("kernel", "set CPUID again?", "before the first run", "the same again", "another one")
ERAS_HEAD = ("kernel", "release", "predicted", "predicted by", "probed", "seen by the tests", "which means")


def markdown(report: Report) -> str:
    """Return the matrix as a GitHub table, with the reason of every cell that is no PASS below the table."""
    advised = [[one.host, one.rule.short, one.before, one.same, one.changed] for one in report.advice]
    eras = [
        [one.host, ", ".join(one.releases), one.predicted, one.source, one.probed, one.told, one.meaning]
        for one in report.standings
    ]
    parts = (
        [TITLE],
        [plain(report.summary)],
        [f"- {plain(name)}: {plain(value)}" for name, value in report.header.items()],
        ["## What may a VMM do on this kernel?"],
        [f"- **{plain(rule.lead)} {plain(', '.join(hosts))}.**" for rule, hosts in report.leads.items()],
        [_plain_table(ADVICE_HEAD, *advised)],
        ["## Predicted, probed, seen"],
        [_plain_table(ERAS_HEAD, *eras)],
        ["## Every promise on every kernel"],
        [plain(report.legend)],
        [_grid(report)],
        [_reason(cell) for cell in report.remarkable],
    )
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _plain_table(*rows: Sequence[str]) -> str:
    return as_table([list(map(plain, row)) for row in rows])


def _grid(report: Report) -> str:
    """The promises by groups; above each group stands its title."""
    columns = report.grid.columns
    lines = [["promise", *(plain(f"{host} {paging}") for host, paging in columns)]]
    for group, rows in report.groups.items():
        lines.append([f"**{plain(group.title)}**"] + [""] * len(columns))
        lines += [[plain(label(row)), *(_seen(report.grid.find(row, column)) for column in columns)] for row in rows]
    return as_table(lines)


def _seen(cell: Cell | None) -> str:
    """Outcome and verdict, in the letters, words and marks of the page."""
    outcome = outcome_of(cell)
    verdict = f" {STYLES[cell.verdict].mark} {cell.verdict}" if cell else ""
    return plain(f"{outcome.letter} {outcome.word}{verdict}")


def _reason(cell: Cell) -> str:
    return f"- **{cell.verdict}** {plain(f'{cell.case}, {cell.host} {cell.paging}: {first_line(cell.reason)}')}"
