"""Write what became of the mutants: the page docs/mutants.md, JSON, a table for a terminal, and one line."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from cpuidlab.commands.mutation_run import Outcome, Result
from cpuidlab.report.markdown_table import as_table

SCHEMA = 1
COLUMNS = ["host", "mutant", "what is promised, and what it does", "end", "by", "what that said"]
HEAD = """\
# Mutants: a broken KVM is caught

Each row is Debian's KVM with one fault in it, a patch in `tooling/mutants/`, and what the suite said when it met it.
Written by

    make mutants

which builds each mutant, runs the tests named in its head until one fails, and the whole suite where none does. Test
one yourself with `make run HOSTS=5.10+tooling/mutants/first-line-only.patch`.
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


def markdown(results: Sequence[Result]) -> str:
    """Return the page docs/mutants.md."""
    rows = [COLUMNS, *(_row(result) for result in results)]
    return f"{HEAD}{summary(results)}.\n\n{as_table(rows)}\n"


def _row(result: Result) -> list[str]:
    """The texts are Markdown as they stand; only what would end a cell is escaped."""
    mutant = result.mutant
    texts = (mutant.host, f"`{mutant.name}`", mutant.breaks, result.outcome, result.by, result.line)
    return [text.replace("|", "\\|") for text in texts]


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
