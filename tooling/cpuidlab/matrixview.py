"""What the matrix looks like: as Markdown, as one page, and in a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from rich.table import Table
from rich.text import Text

from cpuidlab.matrix import Cell, Grid, Place, grid, remarkable, summary, write
from cpuidlab.verdict import Verdict


@dataclass(frozen=True)
class Style:
    """How a verdict looks: a letter for people who do not see the colour, two CSS colours, a rich style."""

    letter: str
    ink: str
    paper: str
    terminal: str
    meaning: str


STYLES = {
    Verdict.FAIL: Style("F", "#ffffff", "#b3261e", "bold white on red", "a promise is broken"),
    Verdict.ERROR: Style("E", "#ffffff", "#5b3a8c", "bold magenta", "the lab failed; says nothing about the kernel"),
    Verdict.WARN: Style(
        "W", "#3d2c00", "#ffd166", "bold yellow", "behaves as a later era than its version: a backport"
    ),
    Verdict.KNOWN: Style(
        "K", "#0b2f5c", "#b9d9f7", "bold blue", "as predicted, and what is predicted is a known defect"
    ),
    Verdict.SKIP: Style("S", "#444444", "#e4e4e4", "dim", "does not apply; the reason says why"),
    Verdict.PASS: Style("P", "#0b4a33", "#cdeadb", "green", "as promised"),
}
UNTESTED = Style("·", "#777777", "#ffffff", "dim", "not tested")


def write_all(
    cells: Sequence[Cell], folder: Path, *, header: Mapping[str, str] | None = None, planned: Sequence[Place] = ()
) -> None:
    """Write matrix.json, matrix.md and matrix.html; what is `planned` is shown, tested or not."""
    write(cells, folder / "matrix.json")
    (folder / "matrix.md").write_text(markdown(cells, header=header, planned=planned))
    (folder / "matrix.html").write_text(html(cells, header=header, planned=planned))


def markdown(cells: Sequence[Cell], *, header: Mapping[str, str] | None = None, planned: Sequence[Place] = ()) -> str:
    """The matrix as a GitHub table, with the reason of every cell that is no PASS below it."""
    table = grid(cells, planned)
    rows = [["promise", *(f"{host} {paging}" for host, paging in table.columns)]]
    rows += [[label(row), *(_said(table.find(row, column)) for column in table.columns)] for row in table.rows]
    lines = ["| " + " | ".join(plain(text) for text in row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    facts = [f"- {plain(name)}: {plain(value)}" for name, value in (header or {}).items()]
    reasons = [
        f"- **{cell.verdict}** {plain(f'{cell.case}, {cell.host} {cell.paging}: {first_line(cell.reason)}')}"
        for cell in remarkable(cells)
    ]
    parts = (["# CPUID change after KVM_RUN"], [plain(summary(cells, planned))], facts, lines, reasons)
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def html(cells: Sequence[Cell], *, header: Mapping[str, str] | None = None, planned: Sequence[Place] = ()) -> str:
    """The matrix as one self-contained page that can be printed."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cpuidlab"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    table, special = grid(cells, planned), remarkable(cells)
    return environment.get_template("matrix.html.j2").render(
        table=table, summary=summary(cells, planned), header=header or {}, styles=STYLES, untested=UNTESTED,
        heads=_heads(table, cells), label=label, remarkable=special,
        number={cell: number for number, cell in enumerate(special, start=1)},
    )  # fmt: skip


def terminal(cells: Sequence[Cell], planned: Sequence[Place] = ()) -> Table:
    """The matrix for a terminal of any width: a line for each promise and host, a column for each paging mode."""
    table = grid(cells, planned)
    shown = Table("promise", "host", *table.pagings, title=summary(cells, planned), title_justify="left")
    for row in table.rows:
        for host in table.hosts:
            first, last = host == table.hosts[0], host == table.hosts[-1]
            places = (table.find(row, (host, paging)) for paging in table.pagings)
            texts = [Text(_said(cell), style=(STYLES[cell.verdict] if cell else UNTESTED).terminal) for cell in places]
            shown.add_row(Text(label(row) if first else ""), Text(host), *texts, end_section=last)
    return shown


def label(row: tuple[str, str]) -> str:
    """A promise's name with its route."""
    case, route = row
    return f"{case} ({route})" if route else case


def first_line(text: str) -> str:
    """The first line of a reason: it says all that matters."""
    return text.partition("\n")[0]


def _heads(table: Grid, cells: Sequence[Cell]) -> dict[str, tuple[str, ...]]:
    """For each host what stands below its name: release, accelerator, predicted era."""
    heads: dict[str, dict[str, None]] = {host: {} for host in table.hosts}
    for cell in cells:
        facts = (cell.release, cell.accel, cell.predicted and f"era {cell.predicted}")
        heads[cell.host].update(dict.fromkeys(fact for fact in facts if fact))
    return {host: tuple(facts) for host, facts in heads.items()}


def _said(cell: Cell | None) -> str:
    """Verdict and observation in words."""
    return f"{cell.verdict} {cell.observed}".rstrip() if cell else f"{UNTESTED.letter} untested"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line, also inside a table."""
    for sign in "\\`*_|<>[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
