"""What the eras promise, spelled out for each situation."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from cpuidlab.experiment.note import Note
from cpuidlab.judge import expectations
from cpuidlab.judge.discrepancies import Expectation
from cpuidlab.judge.eras import Era, era, eras

NO, YES = "EINVAL", "accepted"
REGISTERS = Note.REGISTERS_TAKEN
FORBIDS = ("forbid-changed", "forbid-changed-l2", "false-refusal", "false-acceptance")
NAMES = ("silent", "warn", "forbid-all", *FORBIDS)


def promised(promise: Callable[[Era], Expectation]) -> dict[str, Expectation]:
    return {name: promise(era(name)) for name in NAMES}


def per_era(
    silent: Expectation, warn: Expectation, forbid_all: Expectation, forbids: Expectation
) -> Mapping[str, Expectation]:
    return {"silent": silent, "warn": warn, "forbid-all": forbid_all, **dict.fromkeys(FORBIDS, forbids)}


def test_every_era_is_looked_at() -> None:
    assert {one.name for one in eras()} == set(NAMES)


def test_what_no_era_has_a_say_in() -> None:
    for promise, expectation in (
        (expectations.untouched, Expectation(None, model="asked")),
        (expectations.never_run, Expectation(YES, model="asked", guest=None)),
        (expectations.never_run_and_stable, Expectation(YES, model="asked")),
        (expectations.taken_over, Expectation(YES, notes=(REGISTERS,), model="asked")),
        (expectations.taken_over_with_fault, Expectation(YES, notes=(REGISTERS, Note.FAULT), model="asked")),
        (expectations.taken_over_without_fault, Expectation(YES, notes=(REGISTERS, Note.NO_FAULT), model="asked")),
        (
            expectations.taken_over_without_registers,
            Expectation(YES, notes=(Note.REGISTERS_REFUSED,), model="asked", guest=None),
        ),
        (expectations.taken_over_at_own_risk, Expectation(YES, model="asked", guest=None)),
    ):
        assert promised(promise) == dict.fromkeys(NAMES, expectation)


def test_with_nested_state() -> None:
    accepts = dict.fromkeys(NAMES, Expectation(YES, model="asked", guest=None))
    refuses = Expectation(NO, model="before", guest=None)
    assert promised(expectations.with_nested_state) == accepts | {"forbid-changed-l2": refuses}


def test_identical() -> None:
    accepted = Expectation(YES, model="asked")
    warned, refused = Expectation(YES, warns=True, model="asked"), Expectation(NO, model="asked")
    assert promised(expectations.identical) == per_era(accepted, warned, refused, accepted)


def test_identical_while_pending() -> None:
    notes = (Note.OSXSAVE_CLEARED,)
    accepted = Expectation(YES, model="asked", notes=notes)
    warned = Expectation(YES, warns=True, model="asked", notes=notes)
    refused = Expectation(NO, model="asked", notes=notes)
    stale = Expectation(NO, notes=(Note.OSXSAVE_STALE,), guest=None, defect=True)
    expected = {**per_era(accepted, warned, refused, accepted), "false-refusal": stale}
    assert promised(expectations.identical_while_pending) == expected


def test_replugged_while_pending() -> None:
    accepted, warned = Expectation(YES, model="asked"), Expectation(YES, warns=True, model="asked")
    refused = Expectation(NO, model="asked")
    expected = {
        **per_era(accepted, warned, refused, accepted),
        "false-refusal": Expectation((YES, NO), guest=None, defect=True),
    }
    assert promised(expectations.replugged_while_pending) == expected


TAKEN, WARNED = Expectation(YES, model="asked"), Expectation(YES, warns=True, model="asked")
REFUSED = Expectation(NO, model="before")


def test_changed() -> None:
    assert promised(expectations.changed) == per_era(TAKEN, WARNED, REFUSED, REFUSED)


def noting(expectation: Expectation, *notes: Note, **others: object) -> Expectation:
    return replace(expectation, notes=notes or None, **others)  # type: ignore[arg-type]


BACK = replace(REFUSED, model="asked")
BURST = replace(WARNED, limited=11)
QEMUS_OWN = replace(REFUSED, guest=None)
LOADED = Note.LOAD_VERIFIED


@pytest.mark.parametrize(
    ("promise", "silent", "warn", "forbids"),
    [
        (expectations.changed_and_put_back, TAKEN, WARNED, BACK),
        (expectations.changed_at_own_risk, noting(TAKEN, guest=None), noting(WARNED, guest=None), REFUSED),
        (expectations.memory_out_of_reach, noting(TAKEN, guest="suffers"), noting(WARNED, guest="suffers"), REFUSED),
        (expectations.changed_in_bursts, TAKEN, BURST, REFUSED),
        (expectations.replugged_with_other_features, TAKEN, WARNED, QEMUS_OWN),
        (expectations.changed_under_load, noting(TAKEN, LOADED), noting(WARNED, LOADED), noting(REFUSED, LOADED)),
        (
            expectations.changed_at_own_risk_under_load,
            noting(TAKEN, guest=None),
            noting(WARNED, guest=None),
            noting(REFUSED, LOADED),
        ),
    ],
)
def test_changes_of_other_kinds(
    promise: Callable[[Era], Expectation], silent: Expectation, warn: Expectation, forbids: Expectation
) -> None:
    assert promised(promise) == per_era(silent, warn, forbids, forbids)


MISSED, FAULT, NONE = (Note.MISSED_FAULT, Note.FAULT), (Note.FAULT, Note.FAULT), (Note.NO_FAULT, Note.NO_FAULT)
HARMLESS, KILLED = (Note.HARMLESS, Note.HARMLESS), (Note.HARMLESS, Note.KILLED)


@pytest.mark.parametrize(
    ("promise", "silent", "warn", "forbids"),
    [
        (expectations.no_fault, NONE, NONE, NONE),
        (expectations.fault_missed_with_new_rules, NONE, MISSED, NONE),
        (expectations.fault_missed, MISSED, MISSED, NONE),
        (expectations.fault_missed_of_former_vendor, FAULT, MISSED, FAULT),
        (expectations.no_fault_released, HARMLESS, HARMLESS, HARMLESS),
    ],
)
def test_shadow_pages_that_outlive_a_change(
    promise: Callable[[Era], Expectation], silent: tuple[Note], warn: tuple[Note], forbids: tuple[Note]
) -> None:
    refused = noting(REFUSED, *forbids)
    assert promised(promise) == per_era(noting(TAKEN, *silent), noting(WARNED, *warn), refused, refused)


def test_a_released_fault_harms_the_guest() -> None:
    refused = noting(REFUSED, *HARMLESS)
    harmed = noting(WARNED, *KILLED, guest="harmed")
    assert promised(expectations.fault_released) == per_era(noting(TAKEN, *HARMLESS), harmed, refused, refused)


def test_other_flags() -> None:
    due = promised(expectations.changed)
    accepted = Expectation(YES, model="asked", defect=True)
    assert promised(expectations.other_flags) == due | {"false-acceptance": accepted}


def test_calls_in_turn() -> None:
    kinds = (expectations.changed, expectations.identical, expectations.fails_with("EFAULT"))
    turns = expectations.in_turn(*kinds, note=Note.NO_SLOWER)
    due = Expectation((YES, YES, "EFAULT"), model="asked", notes=(Note.NO_SLOWER,))
    refused = replace(due, answer=(NO, YES, "EFAULT"))
    assert promised(turns) == per_era(due, replace(due, warns=True), replace(due, answer=(NO, NO, NO)), refused)


def test_memory() -> None:
    kept = promised(expectations.noting(expectations.identical, Note.MEMORY_KEPT))
    lost = Expectation(YES, model="asked", notes=(Note.MEMORY_LOST,), defect=True)
    assert promised(expectations.memory_kept(expectations.identical)) == kept | {"false-acceptance": lost}
    refused = promised(expectations.noting(expectations.changed, Note.MEMORY_KEPT))
    assert promised(expectations.memory_kept(expectations.changed)) == refused


def test_calls_that_fail_before_the_first_run_fail_alike_in_every_era() -> None:
    failing = expectations.fails_with("EFAULT", has_run=False)
    assert promised(failing) == dict.fromkeys(NAMES, Expectation("EFAULT", model="before", guest=None))


def test_where_nobody_knows_of_the_re_initialization_no_fault_is_promised() -> None:
    unknown = replace(era("silent"), reinit=None)
    for promise in (expectations.fault_missed_with_new_rules, expectations.fault_missed_of_former_vendor):
        assert promise(unknown) == expectations.changed(unknown)
    assert expectations.fault_released(unknown) == replace(expectations.changed(unknown), guest=None)
    known = replace(era("silent"), reinit=True)  # as 5.12.17 is
    assert expectations.fault_missed_with_new_rules(known) == noting(TAKEN, Note.MISSED_FAULT, Note.FAULT)


def test_every_bit() -> None:
    taken = Expectation(None, notes=(Note.ALL_TAKEN,), model="asked")
    refused = Expectation(None, notes=(Note.ALL_REFUSED,), model="asked")
    assert promised(expectations.every_bit) == per_era(taken, replace(taken, warns=True), refused, refused)


def test_a_call_that_fails_for_its_own_reasons() -> None:
    fails = dict.fromkeys(NAMES, Expectation("E2BIG", model="before"))
    assert promised(expectations.fails_with("E2BIG")) == fails | {"forbid-all": REFUSED}
