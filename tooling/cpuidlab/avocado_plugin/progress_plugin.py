"""Avocado's plug-in that tells on one screen what a job will do, where it stands, and what it has decided.

Avocado's own line for each test is left out unless `--show` asks for more than the usual.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avocado.core.output import LOG_UI
from avocado.core.plugin_interfaces import ResultEvents
from avocado.core.teststatus import STATUSES

from cpuidlab.avocado_plugin.current_job import job as current
from cpuidlab.base.error_text import first_line
from cpuidlab.base.errors import NO_RIG
from cpuidlab.judge.verdict import Verdict

if TYPE_CHECKING:
    from cpuidlab.avocado_plugin.plan import Plan

AT_ONCE = (Verdict.FAIL, Verdict.ERROR, Verdict.WARN)  # printed when they happen, the others at the end
MOST = 8  # lines for one host and paging mode: a lab in trouble must not fill the screen


def leave_out_tests(config: Any) -> None:
    """Have Avocado print no line for each test, where only the usual is to be shown."""
    if _is_usual(config) and not config.get("human_ui.omit.statuses"):
        config["human_ui.omit.statuses"] = [*STATUSES, "STARTED"]


@contextmanager
def shown(config: Mapping[str, Any]) -> Iterator[None]:
    """Print what the job will do, and show where it stands for as long as the context lasts."""
    from cpuidlab.avocado_plugin.job_display import only_display  # noqa: PLC0415

    with only_display():
        _announce(config)
    try:
        yield
    finally:
        if current.display:
            with only_display():
                current.display.stop()


def planned(plan: "Plan") -> None:
    """Correct the forecast by the rigs that the plan's hosts really need."""
    from cpuidlab.avocado_plugin import estimate  # noqa: PLC0415
    from cpuidlab.avocado_plugin.job_display import only_display  # noqa: PLC0415

    current.plan = plan
    if current.display:
        with only_display():
            needs = {v.name: 0 if plan.cold else estimate.rigs_to_make(v.setup) for v in plan.variants}
            current.display.job.planned(needs)


def cell_took(seconds: float) -> None:
    """Note how long a test had a slot of the machine."""
    if current.display:
        current.display.job.cell_took(seconds)


class Progress(ResultEvents):  # type: ignore[misc]  # Avocado has no types
    """Prints each column when it is complete, and at once each cell whose verdict is no usual one."""

    name = "progress"
    description = "Progress of the CPUID lab"

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Look at the options of the job that Avocado makes this for."""
        self._told = Counter[str]()
        self._is_usual = _is_usual(config)

    def pre_tests(self, job: Any) -> None:
        """Show the line again, now that Avocado has printed where its log is."""
        if current.display:
            names = (test.variant["variant_id"] for suite in job.test_suites for test in suite.tests if test.variant)
            machines = {variant.name: variant.machine for variant in current.plan.variants} if current.plan else {}
            current.display.job.begin(Counter(names), machines)
            current.display.start()

    def start_test(self, result: Any, state: Mapping[str, Any]) -> None:
        """Do nothing: Avocado asks for the method."""

    def test_progress(self, progress: bool = False) -> None:
        """Do nothing."""

    def end_test(self, result: Any, state: Mapping[str, Any]) -> None:
        """Count a test that has ended, and print it where it needs attention."""
        if not (current.display and current.plan):
            return
        from cpuidlab.avocado_plugin.results import cells_of  # noqa: PLC0415
        from cpuidlab.report.matrix import label  # noqa: PLC0415

        (cell,) = cells_of([state], current.plan, Path(state["job_logdir"]))
        variant = state["name"].variant
        if cell.verdict in AT_ONCE and state.get("fail_class") != NO_RIG and self._is_usual:
            self._told[variant] += 1
            if self._told[variant] <= MOST:
                where = f"{label((cell.case, cell.route))}, {cell.host} {cell.paging}"
                LOG_UI.debug("  %s %s: %s", cell.verdict, where, first_line(cell.reason))
            elif self._told[variant] == MOST + 1:
                LOG_UI.debug("  further ones on %s are told at the end", variant)
        complete = current.display.job.test_ended(variant, cell.verdict)
        if complete and self._is_usual:
            LOG_UI.debug("  %s", complete)

    def post_tests(self, job: Any) -> None:
        """Take the line away and keep what was measured for the next job."""
        if current.display:
            from cpuidlab.base import speed  # noqa: PLC0415

            current.display.stop()
            speed.keep(current.display.job.speed)


def _announce(config: Mapping[str, Any]) -> None:
    """Print what the job will do and begin to show it; nothing where the plan is about to fail."""
    from cpuidlab.avocado_plugin import estimate, job_display  # noqa: PLC0415
    from cpuidlab.avocado_plugin.job_progress import JobProgress  # noqa: PLC0415
    from cpuidlab.base import speed  # noqa: PLC0415
    from cpuidlab.base.errors import LabError, UsageError  # noqa: PLC0415
    from cpuidlab.base.progress import say  # noqa: PLC0415

    if config.get("subcommand") != "run" or config.get("run.dry_run.enabled"):
        return
    hosts, paging, cold, accel = (config[f"cpuidlab.{key}"] for key in ("hosts", "paging", "cold", "accel"))
    known, at_once = speed.read(), config["run.max_parallel_tasks"]
    try:
        ahead = estimate.outlook(hosts, paging, _tests(config), cold, accel)
    except (UsageError, LabError):
        return
    say("  -- this job")
    for line in ahead.lines(known, at_once, bool(config.get("cpuidlab.resume"))):
        say(f"     {line}")
    lively = job_display.is_lively() and _is_usual(config)
    progress = JobProgress(ahead, known, at_once)
    current.display = job_display.Lively(progress) if lively else job_display.Plain(progress)
    job_display.show(current.display)
    current.display.start()


def _tests(config: Mapping[str, Any]) -> int:
    """Return how many tests the job's references stand for; Avocado itself counts them too late for us."""
    from avocado.core.resolver import resolve  # noqa: PLC0415
    from avocado.core.suite import resolutions_to_runnables  # noqa: PLC0415

    references = resolve(config["resolver.references"], ignore_missing=True, config=config)
    return len(resolutions_to_runnables(references, config))


def _is_usual(config: Mapping[str, Any]) -> bool:
    """Tell whether Avocado's output is the default one."""
    return set(config.get("core.show") or {"app"}) == {"app"}
