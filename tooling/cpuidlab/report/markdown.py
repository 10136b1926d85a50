"""Write the matrix as Markdown."""

from collections.abc import Mapping, Sequence

from cpuidlab.base.error_text import first_line
from cpuidlab.report.host_era import standings
from cpuidlab.report.markdown_table import as_table, plain
from cpuidlab.report.matrix import Cell, Place, by_group, grid, label, remarkable, summary
from cpuidlab.report.outcome import STYLES, legend, outcome_of
from cpuidlab.report.vmm_advice import advice, leads


def markdown(cells: Sequence[Cell], *, header: Mapping[str, str] | None = None, planned: Sequence[Place] = ()) -> str:
    """The matrix as a GitHub table, with the reason of every cell that is no PASS below it."""
    table = grid(cells, planned)
    head = ["promise", *(f"{host} {paging}" for host, paging in table.columns)]
    lines = []
    for group, rows in by_group(table).items():
        lines.append([f"**{plain(group.title)}**"] + [""] * len(table.columns))
        lines += [[plain(label(row)), *(plain(_said(table.find(row, at))) for at in table.columns)] for row in rows]
    facts = [f"- {plain(name)}: {plain(value)}" for name, value in (header or {}).items()]
    reasons = [
        f"- **{cell.verdict}** {plain(f'{cell.case}, {cell.host} {cell.paging}: {first_line(cell.reason)}')}"
        for cell in remarkable(cells)
    ]
    found = advice(cells, planned)
    parts = (
        ["# CPUID change after KVM_RUN"],
        [plain(summary(cells, planned))],
        facts,
        ["## What may a VMM do on this kernel?"],
        [f"- **{plain(rule.lead)} {plain(', '.join(hosts))}.**" for rule, hosts in leads(found).items()],
        _rows(
            ["kernel", "set CPUID again?", "before the first run", "the same again", "another one"],
            *([one.host, one.rule.short, one.before, one.same, one.changed] for one in found),
        ),
        ["## Predicted, probed, seen"],
        _rows(
            ["kernel", "release", "predicted", "probed", "seen by the tests", "which means"],
            *(
                [one.host, ", ".join(one.releases), one.predicted, one.probed, one.told, one.meaning]
                for one in standings(cells, planned)
            ),
        ),
        ["## Every promise on every kernel"],
        [plain(legend(table))],
        [as_table([list(map(plain, head)), *lines])],
        reasons,
    )
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _rows(*rows: Sequence[str]) -> list[str]:
    return [as_table([list(map(plain, row)) for row in rows])]


def _said(cell: Cell | None) -> str:
    """Outcome and verdict, in the letters, words and marks of the page."""
    outcome = outcome_of(cell)
    return (
        f"{outcome.letter} {outcome.word} {STYLES[cell.verdict].mark} {cell.verdict}"
        if cell
        else (f"{outcome.letter} {outcome.word}")
    )
