"""Avocado's plug-in for the variants of a job: each host in each paging mode, with its rigs made ready."""

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from avocado.core.plugin_interfaces import Varianter
from avocado.core.tree import TreeNode

from cpuidlab.avocado_plugin import progress_plugin
from cpuidlab.avocado_plugin.current_job import job
from cpuidlab.avocado_plugin.one_line import exit_in_one_line
from cpuidlab.avocado_plugin.options_plugin import SECTION, plan_of
from cpuidlab.base import die_with_parent
from cpuidlab.kernels.host_spec import parse

if TYPE_CHECKING:
    from cpuidlab.avocado_plugin.plan import Plan


class Hosts(Varianter):  # type: ignore[misc]  # Avocado has no types
    """Each host in each paging mode.

    `initialize` is the last moment before Avocado makes a job: a failure there leaves no results behind.
    """

    name = SECTION
    description = "Variants of the CPUID lab: host x paging mode"
    _plan: "Plan | None" = None

    def initialize(self, config: Mapping[str, Any]) -> None:
        """Resolve the hosts and make what is needed; exit with one line where that fails."""
        from cpuidlab.kernels import suites  # noqa: PLC0415

        runs = config.get("subcommand") == "run" and not config.get("run.dry_run.enabled")
        with exit_in_one_line():
            suites.use(config.get(f"{SECTION}.kernels") or "")
            if runs:
                die_with_parent.own_temp_folder()
            with progress_plugin.shown(config):
                self._plan = plan_of(config)
                if self._plan and runs:
                    _begin(self._plan, config)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield what Avocado calls variants; tests find these values among their parameters."""
        if self._plan is None:
            return
        for variant in self._plan.variants:
            values = {
                "host": parse(variant.host).absolute, "paging": variant.setup.paging, "cold": self._plan.cold,
                "accel": self._plan.accel,
                "era": variant.prediction.named, "eras": self._plan.eras, "kernel": variant.setup.kernel.digest,
                "reload_kvm": getattr(variant.setup, "reload_kvm", False),
            }  # fmt: skip
            yield {"variant_id": variant.name, "variant": [TreeNode("", values)], "paths": ["/"]}

    def __len__(self) -> int:
        return len(self._plan.variants) if self._plan else 0

    def to_str(self, summary: int, variants: int, **_: Any) -> str:
        """List the names of the variants."""
        return "\n".join(f"Variant {each['variant_id']}" for each in self) if summary or variants else ""


def _begin(plan: "Plan", config: Mapping[str, Any]) -> None:
    """Begin the job: look at what it resumes, and return when its first rigs are ready."""
    from cpuidlab.avocado_plugin import plan as planning  # noqa: PLC0415
    from cpuidlab.avocado_plugin import resume  # noqa: PLC0415

    os.environ["CPUIDLAB_JOB_PID"] = str(os.getpid())  # the tests are processes of their own, and end with this one
    job.kept = resume.kept(config, plan)
    progress_plugin.planned(plan)
    job.rigs = planning.prepare(plan)
