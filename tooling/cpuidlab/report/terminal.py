"""Draw the matrix for a terminal of any width."""

from collections.abc import Iterable, Sequence

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpuidlab.report.matrix import Cell, Grid, Place, by_group, grid
from cpuidlab.report.outcome import STYLES, legend, outcome_of
from cpuidlab.report.promise_titles import title_of
from cpuidlab.report.vmm_advice import advice, leads

PROMISE_WIDTH, HOST_WIDTH = 42, 8  # of the terminal's columns; a group's title has to fit


def terminal(cells: Sequence[Cell], planned: Sequence[Place] = (), width: int = 120) -> RenderableType:
    """The matrix for a terminal of any width: hosts that do not fit beside each other come in a further table."""
    table = grid(cells, planned)
    fitting = max(1, (width - PROMISE_WIDTH) // (HOST_WIDTH + 1))
    parts: list[RenderableType] = [
        _part(table, table.hosts[at : at + fitting]) for at in range(0, len(table.hosts), fitting)
    ]
    advised = [f"{rule.lead} {', '.join(hosts)}." for rule, hosts in leads(advice(cells, planned)).items()]
    modes = f"; A/B: {' and '.join(table.pagings)} differ" if len(table.pagings) > 1 else ""
    return Stack(*parts, Text(f"{legend(table)}{modes}", style="dim"), *(Text(line) for line in ("", *advised, "")))


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
