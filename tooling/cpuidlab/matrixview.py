"""What the matrix looks like: as Markdown and in a terminal; the page is matrixpage's."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpuidlab.advice import advice, leads
from cpuidlab.matrix import Cell, Grid, Place, Row, by_group, grid, remarkable, summary
from cpuidlab.outcome import OUTCOMES, STYLES, outcome_of
from cpuidlab.promises import title_of
from cpuidlab.standing import standings

PROMISE_WIDTH, HOST_WIDTH = 42, 8  # of the terminal's columns; a group's title has to fit


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
            [[one.host, one.rule.short, one.before, one.same, one.changed] for one in found],
        ),
        ["## Predicted, probed, seen"],
        _rows(
            ["kernel", "release", "predicted", "probed", "seen by the tests", "which means"],
            [
                [one.host, ", ".join(one.releases), one.predicted, one.probed, one.told, one.meaning]
                for one in standings(cells, planned)
            ],
        ),
        ["## Every promise on every kernel"],
        [plain(_legend(table))],
        ["| " + " | ".join(map(plain, head)) + " |", "|" + " --- |" * len(head)]
        + ["| " + " | ".join(line) + " |" for line in lines],
        reasons,
    )
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def terminal(cells: Sequence[Cell], planned: Sequence[Place] = (), width: int = 120) -> RenderableType:
    """The matrix for a terminal of any width: hosts that do not fit beside each other come in a further table."""
    table = grid(cells, planned)
    fitting = max(1, (width - PROMISE_WIDTH) // (HOST_WIDTH + 1))
    parts: list[RenderableType] = [
        _part(table, table.hosts[at : at + fitting]) for at in range(0, len(table.hosts), fitting)
    ]
    advised = [f"{rule.lead} {', '.join(hosts)}." for rule, hosts in leads(advice(cells, planned)).items()]
    modes = f"; A/B: {' and '.join(table.pagings)} differ" if len(table.pagings) > 1 else ""
    return Stack(*parts, Text(f"{_legend(table)}{modes}", style="dim"), *(Text(line) for line in ("", *advised, "")))


def label(row: Row) -> str:
    """A promise's name with its route."""
    case, route = row
    return f"{case} ({route})" if route else case


def first_line(text: str) -> str:
    """The first line of a reason: it says all that matters."""
    return text.partition("\n")[0]


def _part(table: Grid, hosts: Sequence[str]) -> Table:
    shown = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    shown.add_column("promise", width=PROMISE_WIDTH)
    for host in hosts:
        shown.add_column(Text(host.replace("+", "\n+")), min_width=HOST_WIDTH - 1)
    for group, rows in by_group(table).items():
        shown.add_row(Text(group.title, style="bold underline"))
        for row in rows:
            marks = (_marks([table.find(row, (host, paging)) for paging in table.pagings]) for host in hosts)
            shown.add_row(Text(f"  {title_of(row[0])}"), *marks)
    return shown


def _marks(cells: Iterable[Cell | None]) -> Text:
    """Letter and mark for each paging mode; once where all are alike."""
    alike = dict.fromkeys((outcome_of(cell), STYLES[cell.verdict] if cell else None) for cell in cells)
    texts = [
        Text(f"{outcome.letter}{style.mark if style else ''}", style=style.terminal if style else outcome.terminal)
        for outcome, style in alike
    ]
    return Text("/").join(texts)


def _legend(table: Grid) -> str:
    """What the letters and marks in this table mean."""
    cells = [table.find(row, column) for row in table.rows for column in table.columns]
    used, verdicts = {outcome_of(cell).key for cell in cells}, {cell.verdict for cell in cells if cell}
    letters = [f"{one.letter} {one.word}" for one in OUTCOMES.values() if one.key in used]
    marks = [f"{style.mark} {verdict}" for verdict, style in STYLES.items() if verdict in verdicts]
    return f"{', '.join(letters)}; {', '.join(marks)}" if cells else ""


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(map(plain, row)) + " |" for row in (head, *rows)]
    return [lines[0], "|" + " --- |" * len(head), *lines[1:]]


def _said(cell: Cell | None) -> str:
    """Outcome and verdict, in the letters, words and marks of the page."""
    outcome = outcome_of(cell)
    return (
        f"{outcome.letter} {outcome.word} {STYLES[cell.verdict].mark} {cell.verdict}"
        if cell
        else (f"{outcome.letter} {outcome.word}")
    )


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line, also inside a table."""
    for sign in "\\`*_|<>[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
