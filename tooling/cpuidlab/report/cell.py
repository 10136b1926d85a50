"""One cell of the matrix: one test on one host in one paging mode, with its verdict and the facts behind it."""

from dataclasses import dataclass

from cpuidlab.experiment.facts import Facts
from cpuidlab.experiment.words import in_words
from cpuidlab.judge.verdict import Verdict

Row = tuple[str, str]  # case, route
Place = tuple[str, str]  # host, paging


@dataclass(frozen=True)
class Cell:
    """One test on one host; a text that nobody learned is empty.

    `predicted_by` is the kind of rule that the prediction comes from, such as "candidate" or "vendor rule". `facts` is
    None where nothing was observed: the lab failed, or the test was skipped.
    """

    case: str
    host: str
    release: str
    paging: str
    route: str
    accel: str
    predicted: str
    probed: str
    facts: Facts | None
    verdict: Verdict
    reason: str
    evidence: str
    predicted_by: str = ""


def seen_in_words(cell: Cell) -> str:
    """Say in words what was seen; empty where nothing was."""
    return in_words(cell.facts) if cell.facts else ""
