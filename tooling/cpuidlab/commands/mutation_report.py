"""What a hunt looks like: a table for Markdown and docs/mutants.md, JSON, and a sentence."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from cpuidlab.commands.mutation_run import Outcome, Result

SCHEMA = 1
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
    """How many of each, in one line."""
    counts = Counter(result.outcome for result in results)
    return f"{len(results)} mutants: " + ", ".join(f"{counts[one]} {one}" for one in Outcome if counts[one])


def table(results: Sequence[Result]) -> str:
    """One line for each mutant, for a terminal or a log."""
    return "\n".join(
        f"{result.outcome:10} {result.mutant.host:13} {result.mutant.name:25} {result.by}: {result.line}"
        for result in results
    )


def markdown(results: Sequence[Result]) -> str:
    """The page docs/mutants.md."""
    rows = [
        "| host | mutant | what is promised, and what it does | end | by | what that said |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        mutant = result.mutant
        cells = (mutant.host, f"`{mutant.name}`", mutant.breaks, result.outcome, result.by, result.line)
        rows.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return f"{HEAD}{summary(results)}.\n\n" + "\n".join(rows) + "\n"


def to_json(results: Sequence[Result]) -> str:
    """Plain data, one object for each mutant."""
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
