"""Avocado's plug-in for the end of a job: it writes and prints the matrix, and sets Avocado's exit code."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avocado.core.extension_manager import PluginPriority
from avocado.core.output import LOG_UI
from avocado.core.plugin_interfaces import JobPost

from cpuidlab.avocado_plugin.current_job import job as current
from cpuidlab.avocado_plugin.one_line import exit_in_one_line
from cpuidlab.avocado_plugin.options_plugin import SECTION, plan_of
from cpuidlab.base.exit_codes import INTERRUPTED

if TYPE_CHECKING:
    from cpuidlab.avocado_plugin.plan import Plan
    from cpuidlab.report.report import Report


class Matrix(JobPost):  # type: ignore[misc]  # Avocado has no types
    """Writes and prints the matrix, and has Avocado exit with what it means."""

    name = SECTION
    description = "Matrix of the CPUID lab: matrix.json, matrix.md, matrix.html"
    priority = PluginPriority.LAST_RESORT  # the exit must be the last that happens in a job

    def post(self, job: Any) -> None:
        """Raise SystemExit with the job's exit code.

        Avocado's own code for an interrupted job would tell `git bisect run` that the kernel is bad.
        """
        if job.config.get("run.dry_run.enabled"):
            return
        with exit_in_one_line():
            plan = plan_of(job.config)
            if plan is None:
                return
            code = _collect(job, plan)
        raise SystemExit(code if job.interrupted_reason is None else INTERRUPTED)


def _collect(job: Any, plan: "Plan") -> int:
    """Write the matrix into the job's folder, print it, and return the exit code that it stands for."""
    from cpuidlab.avocado_plugin import results  # noqa: PLC0415
    from cpuidlab.report import write, xunit_tap  # noqa: PLC0415
    from cpuidlab.report.report import report_of  # noqa: PLC0415

    folder = Path(job.logdir)
    cells = results.cells_of(job.result.tests, plan, folder)
    unfinished = job.result.tests_total - len(cells)
    rigs = results.real_rigs(cells, plan, folder)
    header = results.header(plan, job.time_elapsed, unfinished, len(current.kept), rigs)
    report = report_of(cells, header=header, planned=plan.places)
    write.write_all(report, folder)
    xunit_tap.annotate(folder, results.by_name(job.result.tests, cells))
    for line in _lines(report, plan):
        LOG_UI.info("%s", line)
    if unfinished:
        LOG_UI.info("%d of %d tests were not run.", unfinished, job.result.tests_total)
    LOG_UI.info("MATRIX     : %s", folder / "matrix.html")
    return results.exit_code(cells, unfinished)


def _lines(report: "Report", plan: "Plan") -> Iterator[str]:
    """Yield what is printed of a matrix: the grid, the summary, and a line for each cell that is worth a look."""
    from cpuidlab.report import terminal  # noqa: PLC0415

    yield from terminal.lines(report)
    if current.kept:
        yield f"{len(current.kept)} tests were kept from the job that was resumed."
    for spec, reason in plan.left_out:
        yield f"{spec} was left out: {reason}"
