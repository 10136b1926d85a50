"""Hunting mutants: build each, let the tests that should notice look first, and say what became of it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from cpuidlab.base.error_text import first_line
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.exit_codes import BROKEN, OK, UNTESTED
from cpuidlab.base.parallel import in_parallel, rigs_at_once
from cpuidlab.base.progress import say
from cpuidlab.commands import avocado_job
from cpuidlab.commands.mutants import Mutant, locate, whole_suite
from cpuidlab.judge.verdict import Verdict
from cpuidlab.kernels import lookup
from cpuidlab.report.cell import Cell
from cpuidlab.rig.host_config import PAGINGS

TEST_SECONDS = 900.0  # one cold test, with the images made before it
SUITE_SECONDS = 7200.0
KILLS = (Verdict.FAIL, Verdict.WARN, Verdict.KNOWN)  # on these hosts every test passes as long as KVM is whole


class Outcome(StrEnum):
    """What became of a mutant; of those that tests have met only the first two are good."""

    KILLED = "killed"
    EQUIVALENT = "equivalent"
    SURVIVED = "survived"
    NOT_BUILT = "not built"
    ERROR = "error"
    BUILT = "built"


@dataclass(frozen=True)
class Result:
    """A mutant's end; `by` is the test that killed it, `line` the first line of what that said, or the trouble."""

    mutant: Mutant
    outcome: Outcome
    by: str = ""
    line: str = ""
    seconds: float = 0.0


def hunt(mutants: Sequence[Mutant], folder: Path) -> tuple[Result, ...]:
    """Hunt all mutants: several at a time, each with its own killers; then each that is left with the whole suite."""
    found: dict[str, Result] = {}

    def by_killers(mutant: Mutant) -> None:
        found[mutant.name] = _timed(mutant, folder, _killers)

    in_parallel([partial(by_killers, mutant) for mutant in mutants], rigs_at_once())
    for mutant in mutants:
        first = found[mutant.name]
        if first.outcome in (Outcome.SURVIVED, Outcome.ERROR):
            say(f"  .. {mutant.name}: its killers did not kill it, now the whole suite")
            found[mutant.name] = _timed(mutant, folder, _suite)
    return tuple(found[mutant.name] for mutant in mutants)


def build(mutants: Sequence[Mutant]) -> tuple[Result, ...]:
    """Compile all mutants, and no more."""
    return tuple(_timed(mutant, Path(), lambda built, _: Result(built, Outcome.BUILT)) for mutant in mutants)


def judged(mutant: Mutant, cells: Sequence[Cell]) -> Result:
    """What these tests say of a mutant. An ERROR kills nothing, but with one nobody can say that it survives."""
    for cell in cells:
        if cell.verdict in KILLS:
            return Result(mutant, Outcome.KILLED, _test(cell), first_line(cell.reason))
    for cell in cells:
        if cell.verdict is Verdict.ERROR:
            return Result(mutant, Outcome.ERROR, _test(cell), first_line(cell.reason))
    if not any(cell.verdict is Verdict.PASS for cell in cells):
        return Result(mutant, Outcome.ERROR, line="no test ran on it")
    return Result(mutant, Outcome.EQUIVALENT if mutant.equivalent else Outcome.SURVIVED, line=mutant.equivalent or "")


def exit_code(results: Sequence[Result]) -> int:
    """0 all killed or argued equivalent, 1 one survived, 125 of one nobody can say."""
    outcomes = {result.outcome for result in results}
    if Outcome.SURVIVED in outcomes:
        return BROKEN
    return UNTESTED if outcomes & {Outcome.NOT_BUILT, Outcome.ERROR} else OK


def _timed(mutant: Mutant, folder: Path, run: Callable[[Mutant, Path], Result]) -> Result:
    started = time.monotonic()
    try:
        lookup.resolve(mutant.at)
    except UsageError as error:
        result = Result(mutant, Outcome.NOT_BUILT, line=str(error))
    except LabError as error:
        result = Result(mutant, Outcome.ERROR, line=str(error))
    else:
        try:
            result = run(mutant, folder)
        except (LabError, UsageError, OSError) as error:
            result = Result(mutant, Outcome.ERROR, line=first_line(str(error)))
    result = replace(result, seconds=round(time.monotonic() - started, 1))
    say(f"  {result.outcome:10} {mutant.name}{f' by {result.by}' if result.by else ''}: {result.line}")
    return result


def _killers(mutant: Mutant, folder: Path) -> Result:
    """One test after the other, on rigs booted for it alone: two boots cost less than to freeze what is used once."""
    cells: list[Cell] = []
    for number, killer in enumerate(mutant.killers, start=1):
        into = folder / f"{mutant.name}-{number}"
        one = (locate(killer.test),)
        cells += avocado_job.run(one, mutant.spec, killer.paging, into, "--cold", seconds=TEST_SECONDS)
        if judged(mutant, cells).outcome is Outcome.KILLED:
            break
    result = judged(mutant, cells)
    # that it is equivalent has to be seen by all tests
    return replace(result, outcome=Outcome.SURVIVED) if result.outcome is Outcome.EQUIVALENT else result


def _suite(mutant: Mutant, folder: Path) -> Result:
    into = folder / f"{mutant.name}-suite"
    return judged(mutant, avocado_job.run(whole_suite(), mutant.spec, ",".join(PAGINGS), into, seconds=SUITE_SECONDS))


def _test(cell: Cell) -> str:
    return f"{cell.case} {cell.paging}"
