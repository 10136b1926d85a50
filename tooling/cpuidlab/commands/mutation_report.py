"""Write what became of the mutants: the page docs/mutants.md, JSON, a table for a terminal, and one line."""

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict

from cpuidlab.avocado_plugin.cell_file import case_of
from cpuidlab.commands.mutation_run import Outcome, Result
from cpuidlab.kernels.version import upstream
from cpuidlab.report.markdown_table import as_table

SCHEMA = 1
COLUMNS = ["host", "mutant", "what is promised, and what it does", "end", "by", "which of its tests", "what that said"]
HOST, NAME, END, WHICH = 0, 1, 3, 5
HEAD = """\
# Mutants: a broken KVM is caught

Each row is Debian's KVM with one fault in it, a patch in `tooling/mutants/`, and what the suite said when it met it.
Written by

    make mutants

which builds each mutant, runs the tests named in its head until one fails, and the whole suite where none does. With
`MUTANTS="NAME ..."` it does so for these, and keeps the other rows. Test one yourself with
`make run HOSTS=5.10+tooling/mutants/first-line-only.patch`.
A mutant is *killed* by a FAIL, WARN or KNOWN where the unmutated kernel passes; an ERROR kills nothing. *Equivalent* is
one of which no observer can tell, with the argument; all tests have seen it.

"""


def summary(results: Sequence[Result]) -> str:
    """Say in one line how many mutants had each end."""
    counts = Counter(result.outcome for result in results)
    return f"{len(results)} mutants: " + ", ".join(f"{counts[end]} {end}" for end in Outcome if counts[end])


def table(results: Sequence[Result]) -> str:
    """Return one line for each mutant, for a terminal or a log."""
    return "\n".join(
        f"{result.outcome:10} {result.mutant.host:13} {result.mutant.name:25} {result.by}: {result.line}"
        for result in results
    )


def markdown(results: Sequence[Result], old: str = "", known: Collection[str] = ()) -> str:
    """Return the page docs/mutants.md. Rows of the old page are kept for `known` mutants that were not tested now."""
    rows = {name: row for name, row in _rows(old).items() if name in known}
    rows |= {result.mutant.name: _row(result) for result in results}
    ordered = sorted(rows.values(), key=lambda row: (upstream(row[HOST]), row[NAME]))
    head = f"{HEAD}{_figures(ordered)}{_untested(sorted(set(known) - rows.keys()))}"
    return f"{head}\n\n{as_table([COLUMNS, *ordered])}\n"


def which(result: Result) -> str:
    """Say which of the tests in the mutant's head killed it, counted from 1; "none" where it was another test."""
    if result.outcome is not Outcome.KILLED:
        return ""
    named = [f"{case_of(killer.test)} {killer.paging}" for killer in result.mutant.killers]
    return f"{named.index(result.by) + 1} of {len(named)}" if result.by in named else f"none of {len(named)}"


def _figures(rows: Sequence[Sequence[str]]) -> str:
    ends = Counter(row[END] for row in rows)
    first = sum(row[WHICH].startswith("1 of") for row in rows)
    counted = ", ".join(f"{ends[end]} {end}" for end in Outcome if ends[end])
    return f"{len(rows)} mutants: {counted}. The first test named killed {first} of {ends[Outcome.KILLED]}."


def _untested(names: Sequence[str]) -> str:
    if not names:
        return ""
    listed = ", ".join(f"`{name}`" for name in names)
    told = "more are in `tooling/mutants/` and have no row, for the suite has not met them yet"
    return f"\n\n{len(names)} {told}: {listed}."


def _row(result: Result) -> list[str]:
    """The texts are Markdown as they stand; only what would end a cell is escaped."""
    mutant = result.mutant
    texts = (mutant.host, f"`{mutant.name}`", mutant.breaks, result.outcome, result.by, which(result), result.line)
    return [text.replace("|", "\\|") for text in texts]


def _rows(page: str) -> dict[str, list[str]]:
    """Return the rows of a page by the mutant's name; lines that are not a row of this table are left out."""
    split = [re.split(r"(?<!\\)\|", line[1:-1]) for line in page.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in cells] for cells in split if len(cells) == len(COLUMNS)]
    return {row[NAME].strip("`"): row for row in rows if row[NAME].startswith("`")}


def to_json(results: Sequence[Result]) -> str:
    """Return the results as JSON, one object for each mutant."""
    rows = [
        {
            "name": result.mutant.name,
            "host": result.mutant.host,
            "breaks": result.mutant.breaks,
            "killers": [asdict(killer) for killer in result.mutant.killers],
            "outcome": result.outcome,
            "by": result.by,
            "line": result.line,
            "seconds": result.seconds,
        }
        for result in results
    ]
    return json.dumps({"schema": SCHEMA, "mutants": rows}, indent=1) + "\n"
