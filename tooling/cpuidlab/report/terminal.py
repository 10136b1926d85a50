"""Draw the matrix for a terminal of any width."""

from collections.abc import Iterable, Sequence

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpuidlab.report.cell import Cell
from cpuidlab.report.outcome import STYLES, outcome_of
from cpuidlab.report.promise_titles import title_of
from cpuidlab.report.report import Report

PROMISE_WIDTH, HOST_WIDTH = 42, 8  # of the terminal's columns; a group's title has to fit


def terminal(report: Report, width: int = 120) -> RenderableType:
    """Return the matrix for a terminal that is `width` columns wide.

    Hosts that do not fit beside each other come in a further table.
    """
    hosts, pagings = report.grid.hosts, report.grid.pagings
    fitting = max(1, (width - PROMISE_WIDTH) // (HOST_WIDTH + 1))
    parts = [_part(report, hosts[at : at + fitting]) for at in range(0, len(hosts), fitting)]
    modes = f"; A/B: {' and '.join(pagings)} differ" if len(pagings) > 1 else ""
    advised = [f"{rule.lead} {', '.join(hosts)}." for rule, hosts in report.leads.items()]
    return Stack(*parts, Text(f"{report.legend}{modes}", style="dim"), *(Text(line) for line in ("", *advised, "")))


def _part(report: Report, hosts: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("promise", width=PROMISE_WIDTH)
    for host in hosts:
        table.add_column(Text(host.replace("+", "\n+")), min_width=HOST_WIDTH - 1)
    grid = report.grid
    for group, rows in report.groups.items():
        table.add_row(Text(group.title, style="bold underline"))
        for row in rows:
            marks = (_marks([grid.find(row, (host, paging)) for paging in grid.pagings]) for host in hosts)
            table.add_row(Text(f"  {title_of(row[0])}"), *marks)
    return table


def _marks(cells: Iterable[Cell | None]) -> Text:
    """Letter and mark for each paging mode; once where all are alike."""
    alike = dict.fromkeys((outcome_of(cell), STYLES[cell.verdict] if cell else None) for cell in cells)
    texts = [
        Text(f"{outcome.letter}{style.mark if style else ''}", style=style.terminal if style else outcome.terminal)
        for outcome, style in alike
    ]
    return Text("/").join(texts)
