"""Avocado's plug-in for a job on several machines: it mixes their tests, so that all of the machines are busy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from avocado.core.plugin_interfaces import JobPre

from cpuidlab.avocado_plugin.options_plugin import SECTION, plan_of

if TYPE_CHECKING:
    from cpuidlab.avocado_plugin.plan import Plan

PARALLEL = "run.max_parallel_tasks"


class SideBySide(JobPre):  # type: ignore[misc]  # Avocado has no types
    """Changes the order of the tests, and how many of them Avocado begins at the same time."""

    name = SECTION
    description = "Order of the tests on several machines"

    def pre(self, job: Any) -> None:
        """Do it before the first test; a job on one machine stays as it is."""
        plan = plan_of(job.config)
        if plan is None or len({variant.machine for variant in plan.variants}) == 1:
            return
        for suite in job.test_suites:
            suite.tests = mixed(suite.tests, plan)
            suite.config[PARALLEL] = at_once(suite.config[PARALLEL], plan)


def mixed(tests: Sequence[Any], plan: "Plan") -> list[Any]:
    """Mix the tests of the machines evenly; those of each machine keep their order."""
    machine_of = {variant.name: variant.machine for variant in plan.variants}
    found: dict[str, list[Any]] = {}
    for test in tests:
        found.setdefault(machine_of[test.variant["variant_id"]], []).append(test)
    shares = [((number + 0.5) / len(each), test) for each in found.values() for number, test in enumerate(each)]
    return [test for _, test in sorted(shares, key=lambda share: share[0])]


def at_once(asked: int, plan: "Plan") -> int:
    """Return how many tests are begun at the same time, where `asked` is the number for nested hosts."""
    from cpuidlab.avocado_plugin.rig_scheduler import ON_A_MACHINE  # noqa: PLC0415

    machines = {variant.machine for variant in plan.variants}
    return sum(ON_A_MACHINE if machine else asked for machine in machines)
