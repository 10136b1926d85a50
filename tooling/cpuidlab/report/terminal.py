"""Draw the matrix for a terminal of any width, and tell in lines what is worth a look."""

import io
import sys
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, RenderableType
from rich.console import Group as Stack
from rich.table import Table
from rich.text import Text

from cpuidlab.base.error_text import first_line, printable
from cpuidlab.report.cell import Cell
from cpuidlab.report.matrix import label
from cpuidlab.report.outcome import STYLES, outcome_of
from cpuidlab.report.promise_titles import title_of
from cpuidlab.report.report import Report

PROMISE_WIDTH, HOST_WIDTH = 42, 8  # of the terminal's columns; a group's title has to fit


def lines(report: Report) -> Iterator[str]:
    """Yield what is printed of a matrix: the grid, the summary, and a line for each cell that is worth a look.

    The grid is as wide as the terminal, and in colour where the output goes to a terminal.
    """
    width = None if sys.stdout.isatty() else 120
    text = io.StringIO()
    console = Console(file=text, force_terminal=sys.stdout.isatty(), width=width)
    console.print(terminal(report, console.width))
    yield f"\n{text.getvalue()}"
    yield printable(report.summary)
    for cell in report.remarkable:
        where = f"{label((cell.case, cell.route))}, {cell.host} {cell.paging}"
        yield printable(f"{cell.verdict} {where}: {first_line(cell.reason)}")


def terminal(report: Report, width: int = 120) -> RenderableType:
    """Return the matrix for a terminal that is `width` columns wide.

    Hosts that do not fit beside each other come in a further table.
    """
    hosts, pagings = report.grid.hosts, report.grid.pagings
    fitting = max(1, (width - PROMISE_WIDTH) // (HOST_WIDTH + 1))
    parts = [_part(report, hosts[at : at + fitting]) for at in range(0, len(hosts), fitting)]
    modes = f"; A/B: {' and '.join(pagings)} differ" if len(pagings) > 1 else ""
    advised = [f"{rule.lead} {', '.join(hosts)}." for rule, hosts in report.leads.items()]
    return Stack(*parts, _text(f"{report.legend}{modes}", style="dim"), *map(_text, ("", *advised, "")))


def _part(report: Report, hosts: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("promise", width=PROMISE_WIDTH)
    for host in hosts:
        table.add_column(_text(host, at="+"), min_width=HOST_WIDTH - 1)
    grid = report.grid
    for group, rows in report.groups.items():
        table.add_row(_text(group.title, style="bold underline"))
        for row in rows:
            marks = (_marks([grid.find(row, (host, paging)) for paging in grid.pagings]) for host in hosts)
            table.add_row(_text(f"  {title_of(row[0])}"), *marks)
    return table


def _text(words: str, style: str = "", at: str = "") -> Text:
    """Return words that may come from a file, without control characters; a new line begins before each `at`."""
    safe = printable(words)
    return Text(safe.replace(at, f"\n{at}") if at else safe, style=style)


def _marks(cells: Iterable[Cell | None]) -> Text:
    """Letter and mark for each paging mode; once where all are alike."""
    alike = dict.fromkeys((outcome_of(cell), STYLES[cell.verdict] if cell else None) for cell in cells)
    texts = [
        Text(f"{outcome.letter}{style.mark if style else ''}", style=style.terminal if style else outcome.terminal)
        for outcome, style in alike
    ]
    return Text("/").join(texts)
