"""What the eras promise, spelled out for each situation."""

import pytest
from cpuidlab.experiment.sweep import REFUSES, TAKES
from cpuidlab.judge import expectations
from cpuidlab.judge.eras import era, eras
from cpuidlab.judge.verdict import Expectation

NO = "EINVAL"
FORBIDS = ("forbid-changed", "forbid-changed-l2", "false-refusal")


def test_every_era_is_looked_at() -> None:
    assert {one.name for one in eras()} == {"silent", "warn", "forbid-all", *FORBIDS}


@pytest.mark.parametrize("name", [one.name for one in eras()])
def test_what_no_era_has_a_say_in(name: str) -> None:
    assert expectations.untouched(era(name)) == Expectation(None, model="asked", guest="stable")
    assert expectations.never_run(era(name)) == Expectation("accepted", model="asked", guest=None)
    assert expectations.same_everywhere("E2BIG", "before")(era(name)) == Expectation("E2BIG", model="before")


@pytest.mark.parametrize(
    ("name", "promised"),
    [
        ("silent", Expectation("accepted", model="asked")),
        ("warn", Expectation("accepted", lines=3, model="asked")),
        ("forbid-all", Expectation(NO, model="asked")),
        *((name, Expectation("accepted", model="asked")) for name in FORBIDS),
    ],
)
def test_identical(name: str, promised: Expectation) -> None:
    assert expectations.identical(3)(era(name)) == promised


CLEARED = ("OSXSAVE cleared",)


@pytest.mark.parametrize(
    ("name", "promised"),
    [
        ("silent", Expectation("accepted", model="asked", notes=CLEARED)),
        ("warn", Expectation("accepted", lines=3, model="asked", notes=CLEARED)),
        ("forbid-all", Expectation(NO, model="asked", notes=CLEARED)),
        ("forbid-changed", Expectation("accepted", model="asked", notes=CLEARED)),
        ("false-refusal", Expectation(NO, notes=("OSXSAVE stale",), guest=None, defect=True)),
        ("forbid-changed-l2", Expectation("accepted", model="asked", notes=CLEARED)),
    ],
)
def test_pending(name: str, promised: Expectation) -> None:
    assert expectations.pending(3)(era(name)) == promised


@pytest.mark.parametrize("deadly", [False, True])
@pytest.mark.parametrize("name", [one.name for one in eras()])
def test_changed(name: str, deadly: bool) -> None:
    promised = expectations.changed(2, deadly)(era(name))
    if name in ("silent", "warn"):
        end = "dies" if deadly else "stable"
        assert (promised.answer, promised.model, promised.guest) == ("accepted", "asked", end)
    else:
        assert (promised.answer, promised.model, promised.guest) == (NO, "before", "stable")
    assert promised.lines == (2 if name == "warn" else 0)


@pytest.mark.parametrize("name", [one.name for one in eras()])
def test_every_bit(name: str) -> None:
    promised = expectations.every_bit(900)(era(name))
    note = TAKES if name in ("silent", "warn") else REFUSES
    assert promised == Expectation(None, lines=900 if name == "warn" else 0, notes=(note,), model="asked")
