"""Run `avocado run` as a user would, and read the matrix that it leaves."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cpuidlab.base import command
from cpuidlab.base.die_with_parent import DIE_WITH_US
from cpuidlab.base.errors import LabError
from cpuidlab.base.paths import PROJECT
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report import matrix_file
from cpuidlab.report.cell import Cell
from cpuidlab.report.write import UNFINISHED, read_about

RESULTS = PROJECT / "job-results"


def command_line(tests: Sequence[str], into: Path, *options: str) -> list[str]:
    """Return the command of a job with its results in `into`; the job ends with the thread that starts it."""
    avocado = Path(sys.executable).with_name("avocado")
    return [*DIE_WITH_US, str(avocado), "run", *tests, "--job-results-dir", str(into), *options]


def run(tests: Sequence[str], hosts: str, paging: str, into: Path, *more: str, seconds: float) -> tuple[Cell, ...]:
    """Run the tests on the hosts; `into` is a new folder for Avocado's results, `more` are further options.

    Raises LabError where the job leaves no matrix, or was cut short before any test failed.
    """
    line = command_line(tests, into, "--hosts", hosts, "--paging", paging, *more)
    try:
        command.run(line, seconds=seconds, cwd=PROJECT)
        failure = LabError(f"avocado left no matrix in {into}")
    except LabError as error:  # a broken promise is an exit code too
        failure = LabError(f"avocado left no matrix in {into}: {error}", error.evidence)
    left = sorted(into.glob("job-*/matrix.json"))
    if not left:
        raise failure
    cells = matrix_file.read(left[-1])
    not_run = read_about(left[-1].parent)[0].get(UNFINISHED)
    if not_run and all(cell.verdict is not Verdict.FAIL for cell in cells):
        raise LabError(f"the job in {into} was cut short: {not_run} were not run")
    return cells


def new_folder(name: str) -> Path:
    """Make a new folder below job-results, with the time in its name."""
    folder = RESULTS / f"{name}-{time.strftime('%Y-%m-%dT%H.%M.%S')}"
    folder.mkdir(parents=True)
    return folder
