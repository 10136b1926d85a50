"""The matrix in a few sentences."""

from collections import Counter
from collections.abc import Mapping, Sequence

from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell
from cpuidlab.report.matrix import Grid

_ASIDES = {
    Verdict.KNOWN: "As predicted, but a known defect",
    Verdict.WARN: "Ahead of the version, by a backport",
    Verdict.ERROR: "Not all could be tested, the lab failed",
}


def summary(cells: Sequence[Cell], table: Grid) -> str:
    """Name, in one or two sentences, every host that does not do what it promises, and what could not be tested.

    `table` is the lay-out of the cells.
    """
    broken = _hosts(cells, table, Verdict.FAIL)
    tested = tuple(dict.fromkeys(c.host for c in cells if c.verdict not in (Verdict.SKIP, Verdict.ERROR)))
    untested = table.untested
    limits = ", as far as tested" if untested or _hosts(cells, table, Verdict.ERROR) else ""
    if not tested:
        parts = ["No host was tested."]
    elif broken:
        verb = "does" if len(broken) == 1 else "do"
        head = f"{len(broken)} of {count(len(tested), 'host')} {verb} not do what was promised"
        parts = [f"{head}: {_list(broken, 'FAIL')}."]
    elif len(tested) == 1:
        parts = [f"The one host tested ({tested[0]}) does what it promises{limits}."]
    else:
        parts = [f"All {len(tested)} hosts do what they promise{limits}."]
    for verdict, text in _ASIDES.items():
        hosts = _hosts(cells, table, verdict)
        if hosts:
            parts.append(f"{text}: {_list(hosts, verdict)}.")
    return " ".join([*parts, *([f"Untested: {count(untested, 'cell')}."] if untested else [])])


def _hosts(cells: Sequence[Cell], table: Grid, verdict: Verdict) -> dict[str, int]:
    """Count the cells of that verdict on each host that has any; oldest host first."""
    count = Counter(cell.host for cell in cells if cell.verdict is verdict)
    return {host: count[host] for host in table.hosts if host in count}


def _list(hosts: Mapping[str, int], word: str) -> str:
    return ", ".join(f"{host} ({count} {word})" for host, count in hosts.items())


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where the number is not 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
