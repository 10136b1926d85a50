"""False alarms: the whole suite, time after time, on hosts that keep their promises; each must pass each time."""

from collections import Counter
from collections.abc import Sequence

from cpuidlab.base.error_text import first_line
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.exit_codes import BROKEN, OK, UNTESTED
from cpuidlab.commands import avocado_job
from cpuidlab.commands.mutants import whole_suite
from cpuidlab.commands.mutation_run import SUITE_SECONDS
from cpuidlab.judge.verdict import Verdict
from cpuidlab.kernels import host_spec
from cpuidlab.report.cell import Cell
from cpuidlab.rig.host_config import PAGINGS

HOSTS = "5.10+warning,6.1"  # one that warns, one that refuses
ALARMS = (Verdict.FAIL, Verdict.WARN, Verdict.ERROR)


def main(rounds: int, hosts: str = HOSTS) -> int:
    """Run that many rounds and print each; 0 without an alarm, 1 where a test said FAIL or WARN, 125 where ERROR."""
    if rounds < 1:
        raise UsageError(f"--rounds {rounds}: at least one")
    for spec in host_spec.split_hosts(hosts):
        host_spec.parse(spec)
    folder = avocado_job.new_folder("steady")
    cells: list[Cell] = []
    lost = 0
    for number in range(1, rounds + 1):
        try:
            new = avocado_job.run(whole_suite(), hosts, ",".join(PAGINGS), folder / str(number), seconds=SUITE_SECONDS)
        except LabError as error:
            print(f"round {number} of {rounds} was lost: {error}", flush=True)
            lost += 1
            continue
        print(f"round {number} of {rounds}: {counted(new)}", flush=True)
        for cell in alarms(new):
            print(f"  {cell.verdict} {cell.case}, {cell.host} {cell.paging}: {first_line(cell.reason)}", flush=True)
        cells += new
    ended = f"{rounds} rounds on {hosts}{f', {lost} of them lost' if lost else ''}"
    print(f"{ended}: {counted(cells)}; {len(alarms(cells))} false alarms; all in {folder}")
    return exit_code(cells) or (UNTESTED if lost else OK)


def alarms(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells that should not be."""
    return tuple(cell for cell in cells if cell.verdict in ALARMS)


def counted(cells: Sequence[Cell]) -> str:
    """How many of each verdict, in words."""
    counts = Counter(cell.verdict for cell in cells)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]) or "no test ran"


def exit_code(cells: Sequence[Cell]) -> int:
    """As for `avocado run`, and a WARN counts as a FAIL: here nothing has been backported."""
    verdicts = {cell.verdict for cell in cells}
    if verdicts & {Verdict.FAIL, Verdict.WARN}:
        return BROKEN
    return UNTESTED if Verdict.ERROR in verdicts or Verdict.PASS not in verdicts else OK
