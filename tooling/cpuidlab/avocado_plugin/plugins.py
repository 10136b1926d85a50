"""Avocado's plug-ins: the options of `avocado run`, the variants host x paging, the journal, the matrix after the job.

Heavy modules are imported when a job needs them: every `avocado` command loads this one.
"""

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from avocado.core.extension_manager import PluginPriority
from avocado.core.output import LOG_UI
from avocado.core.plugin_interfaces import CLI, JobPost, ResultEvents, Varianter
from avocado.core.settings import settings
from avocado.core.tree import TreeNode

from cpuidlab.avocado_plugin import progress_events
from cpuidlab.base import error_text
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.exit_codes import INTERRUPTED, TERMINATED, UNTESTED, USAGE
from cpuidlab.base.paths import PROJECT
from cpuidlab.kernels.host_spec import parse

if TYPE_CHECKING:
    from cpuidlab.avocado_plugin.plan import Plan

SECTION = "cpuidlab"

# key, type, what help shows for the value, help; the defaults stand in avocado.cfg
OPTIONS: tuple[tuple[str, type, str | None, str], ...] = (
    (
        "hosts",
        str,
        "HOST,...",
        "hosts to test, comma-separated, such as 5.10,5.10+warning,newest; all: every one there is",
    ),
    ("paging", str, "MODE,...", "paging modes of the host's KVM, comma-separated: npt, shadow"),
    ("era", str, "ERA", "judge by this era instead of the predicted one: NAME, or HOST=NAME,..."),
    ("eras", str, "FILE", "a table of kernel releases and their eras instead of ~/.config/kvm-cpuid-lab/eras.toml"),
    ("cold", bool, None, "boot a rig from the beginning for every test instead of thawing a frozen one"),
    ("resume", str, "JOBDIR", "keep what an interrupted job has decided, and run the rest; last: the latest job"),
)


class Options(CLI):  # type: ignore[misc]  # Avocado has no types
    """The options of `avocado run`, and defaults of Avocado's own that depend on this machine."""

    name = SECTION
    description = "Options of the CPUID lab for 'run'"

    def configure(self, parser: Any) -> None:
        """Register the options."""
        from cpuidlab.base.parallel import rigs_at_once  # noqa: PLC0415

        run = parser.subcommands.choices.get("run")
        group = run.add_argument_group("CPUID lab")
        for key, kind, value, text in OPTIONS:
            settings.register_option(
                section=SECTION, key=key, key_type=kind, default=kind(), help_msg=text, parser=group,
                long_arg=f"--{key}", metavar=value,
            )  # fmt: skip
        settings.update_option("run.max_parallel_tasks", rigs_at_once())
        settings.update_option("datadir.paths.logs_dir", str(PROJECT / "job-results"))
        settings.update_option("datadir.paths.test_dir", str(PROJECT / "tests"))

    def run(self, config: Mapping[str, Any]) -> None:
        """Choose what Avocado will print of tests; it holds all output back at this time."""
        progress_events.leave_out_tests(config)


class Hosts(Varianter):  # type: ignore[misc]
    """Each host in each paging mode; before a job, the rigs are made ready.

    That is the last moment before Avocado makes a job: what cannot be prepared leaves no results behind.
    """

    name = SECTION
    description = "Variants of the CPUID lab: host x paging mode"
    _plan: "Plan | None" = None

    def initialize(self, config: Mapping[str, Any]) -> None:
        """Resolve the hosts and freeze what is needed; exit with one line where that fails."""
        with _one_line(), progress_events.shown(config):
            self._plan = plan_of(config)
            if self._plan and config.get("subcommand") == "run" and not config.get("run.dry_run.enabled"):
                from cpuidlab.avocado_plugin import journal, plan, resume  # noqa: PLC0415
                from cpuidlab.base import die_with_parent  # noqa: PLC0415

                os.environ["CPUIDLAB_JOB_PID"] = str(os.getpid())
                die_with_parent.own_temp_folder()
                journal.kept = resume.kept(config, self._plan)
                progress_events.planned(self._plan)
                plan.prepare(self._plan)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield what Avocado calls variants; tests find these values among their parameters."""
        if self._plan is None:
            return
        for one in self._plan.variants:
            values = {
                "host": parse(one.host).absolute, "paging": one.setup.paging, "era": one.era, "eras": self._plan.eras,
                "cold": self._plan.cold, "kernel": one.setup.kernel.digest,
            }  # fmt: skip
            yield {"variant_id": one.name, "variant": [TreeNode("", values)], "paths": ["/"]}

    def __len__(self) -> int:
        return len(self._plan.variants) if self._plan else 0

    def to_str(self, summary: int, variants: int, **_: Any) -> str:
        """List the names of the variants."""
        return "\n".join(f"Variant {one['variant_id']}" for one in self) if summary or variants else ""


class Journal(ResultEvents):  # type: ignore[misc]
    """Writes down each test as it ends: what an interrupted job has decided need not be run again."""

    name = SECTION
    description = "Journal of the CPUID lab: journal.jsonl"

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Avocado makes it for a job."""
        self._config = config

    def end_test(self, result: Any, state: Mapping[str, Any]) -> None:
        """Note a test that has ended."""
        from cpuidlab.avocado_plugin import resume  # noqa: PLC0415

        plan = plan_of(self._config)
        if plan is not None:
            resume.note(plan, state)

    def pre_tests(self, job: Any) -> None:
        """Nothing to do: Avocado asks for it."""

    def start_test(self, result: Any, state: Mapping[str, Any]) -> None:
        """Nothing to do."""

    def test_progress(self, progress: bool = False) -> None:
        """Nothing to do."""

    def post_tests(self, job: Any) -> None:
        """Nothing to do."""


class Matrix(JobPost):  # type: ignore[misc]
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
        with _one_line():
            code = self._collect(job)
        if code is not None:
            raise SystemExit(code if job.interrupted_reason is None else INTERRUPTED)

    def _collect(self, job: Any) -> int | None:
        from cpuidlab.avocado_plugin import journal, results  # noqa: PLC0415
        from cpuidlab.report import matrix, terminal, write, xunit_tap  # noqa: PLC0415

        plan = plan_of(job.config)
        if plan is None:
            return None
        folder = Path(job.logdir)
        cells = results.cells_of(job.result.tests, plan, folder)
        unfinished = job.result.tests_total - len(cells)
        header = results.header(plan, job.time_elapsed, unfinished, len(journal.kept))
        write.write_all(cells, folder, header=header, planned=plan.places)
        xunit_tap.annotate(folder, results.by_name(job.result.tests, cells))
        LOG_UI.info("\n%s", _drawn(lambda width: terminal.terminal(cells, plan.places, width)))
        LOG_UI.info(matrix.summary(cells, plan.places))
        for cell in matrix.remarkable(cells):
            where = f"{matrix.label((cell.case, cell.route))}, {cell.host} {cell.paging}"
            LOG_UI.info("%s %s: %s", cell.verdict, where, error_text.first_line(cell.reason))
        if journal.kept:
            LOG_UI.info("%d tests were kept from the job that was resumed.", len(journal.kept))
        for spec, reason in plan.left_out:
            LOG_UI.info("%s was left out: %s", spec, reason)
        if unfinished:
            LOG_UI.info("%d of %d tests were not run.", unfinished, job.result.tests_total)
        LOG_UI.info("MATRIX     : %s", folder / "matrix.html")
        return results.exit_code(cells, unfinished)


def plan_of(config: Mapping[str, Any]) -> "Plan | None":
    """The plan that the options stand for; None for a job that does not know them."""
    if config.get(f"{SECTION}.hosts") is None:
        return None
    return _plan(*(config[f"{SECTION}.{key}"] for key in ("hosts", "paging", "era", "cold", "eras")))


@cache  # what `all` means must not change while a job runs
def _plan(hosts: str, paging: str, era: str, cold: bool, table: str) -> "Plan":
    from cpuidlab.avocado_plugin.plan import plan  # noqa: PLC0415

    return plan(hosts, paging, era, cold, table)


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn what goes wrong into one line and an exit code; Avocado would print a trace and go on."""
    try:
        yield
    except UsageError as error:
        _exit(str(error), USAGE)
    except LabError as error:
        _exit(error_text.told(error), UNTESTED)
    except KeyboardInterrupt:
        _exit("interrupted", INTERRUPTED)
    except SystemExit as error:  # Avocado's answer to SIGTERM is one with a text, which Python takes for 1
        if error.code != "Terminated":
            raise
        _exit("terminated", TERMINATED)
    except OSError as error:
        _exit(error_text.of_system(error), UNTESTED)
    except Exception as error:
        logging.getLogger("avocado.cpuidlab").debug("the lab's defect", exc_info=True)  # avocado --show all
        _exit(error_text.of_lab(error), UNTESTED)


def _exit(text: str, code: int) -> NoReturn:
    print(f"cpuidlab: {text}", file=sys.stderr)
    raise SystemExit(code) from None


def _drawn(draw: Callable[[int], Any]) -> str:
    """What `draw` makes for the width there is, as text, in colour where it goes to a terminal."""
    from rich.console import Console  # noqa: PLC0415

    console = Console(
        file=io.StringIO(), force_terminal=sys.stdout.isatty(), width=None if sys.stdout.isatty() else 120
    )
    console.print(draw(console.width))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text
