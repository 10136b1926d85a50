"""The order of the tests of a job on several machines, and how many of them are begun at the same time."""

from types import SimpleNamespace
from typing import Any

import pytest
from cpuidlab.avocado_plugin import side_by_side
from cpuidlab.avocado_plugin.side_by_side import PARALLEL, SideBySide, at_once, mixed


def plan_with(**machines: str) -> Any:
    """A plan with these variants, each on a machine; "" is this machine."""
    variants = [SimpleNamespace(name=name, machine=machine) for name, machine in machines.items()]
    return SimpleNamespace(variants=variants)


def suite_of(plan: Any, tests: int) -> Any:
    """Each test in each variant, as Avocado orders them: variant by variant."""
    found = [
        SimpleNamespace(number=number, variant={"variant_id": variant.name})
        for variant in plan.variants
        for number in range(tests)
    ]
    return SimpleNamespace(tests=found, config={PARALLEL: 2})


def told(tests: Any) -> str:
    return " ".join(f"{test.variant['variant_id']}{test.number}" for test in tests)


def test_the_tests_of_the_machines_are_mixed_evenly_in_their_order() -> None:
    plan = plan_with(a="ssh://a", b="ssh://b")
    assert told(mixed(suite_of(plan, 3).tests, plan)) == "a0 b0 a1 b1 a2 b2"
    plan = plan_with(npt="ssh://a", shadow="ssh://a", n="")
    assert told(mixed(suite_of(plan, 2).tests, plan)) == "npt0 n0 npt1 shadow0 n1 shadow1"


@pytest.mark.parametrize(
    ("machines", "number"),
    [({"a": "ssh://a", "b": "ssh://b"}, 4), ({"a": "ssh://a", "n": "", "m": ""}, 5), ({"a": "local"}, 2)],
)
def test_each_machine_has_two_tests_and_this_one_what_it_can_carry(machines: dict[str, str], number: int) -> None:
    assert at_once(3, plan_with(**machines)) == number


@pytest.mark.parametrize(
    ("machines", "order", "parallel"),
    [
        ({"a": "ssh://a", "b": "ssh://b"}, "a0 b0 a1 b1", 4),
        ({"npt": "ssh://a", "shadow": "ssh://a"}, "npt0 npt1 shadow0 shadow1", 2),
        ({"n": "", "m": ""}, "n0 n1 m0 m1", 2),
    ],
)
def test_only_a_job_on_several_machines_is_changed(
    monkeypatch: pytest.MonkeyPatch, machines: dict[str, str], order: str, parallel: int
) -> None:
    plan = plan_with(**machines)
    monkeypatch.setattr(side_by_side, "plan_of", lambda _: plan)
    suite = suite_of(plan, 2)
    SideBySide().pre(SimpleNamespace(config={}, test_suites=[suite]))
    assert (told(suite.tests), suite.config[PARALLEL]) == (order, parallel)


def test_a_job_without_hosts_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "plan_of", lambda _: None)
    SideBySide().pre(SimpleNamespace(config={}, test_suites=[None]))
