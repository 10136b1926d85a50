"""Deadlines, and waiting with an eye on the machine."""

import time

import pytest
from cpuidlab.base import deadline
from cpuidlab.base.deadline import Deadline, wait_for
from cpuidlab.base.errors import LabError, LostVMError


def nothing() -> None:
    """A machine that is well."""


def test_a_deadline_never_goes_below_zero() -> None:
    assert Deadline.after(-5).left() == 0
    assert 9 < Deadline.after(10).left() <= 10


def test_within_is_the_earlier_of_the_two() -> None:
    deadline = Deadline.after(10)
    assert deadline.within(60) == deadline
    assert deadline.within(1).left() <= 1
    assert Deadline.after(-1).within(5).left() == 0


def test_a_pause_is_as_long_as_asked_for_and_ends_with_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    Deadline.after(100).pause(0.01)
    Deadline.after(100, patience=4).pause(0.01)
    Deadline.after(5).pause(60)
    Deadline.after(-1).pause(1)
    assert slept[:2] == [0.01, 0.01]
    assert 0 < slept[2] <= 5
    assert slept[3] == 0


def test_patience_stretches_all_that_is_waited_for() -> None:
    patient = Deadline.after(100, patience=4)
    assert 300 < patient.left() <= 400
    assert 20 < patient.within(10).left() <= 40
    assert patient.within(10).within(1).patience == 4
    assert patient.before(20).at == patient.at - 80


def test_what_is_found_is_returned_even_if_it_is_false() -> None:
    looks = iter([None, None, ""])
    assert wait_for("it", lambda: next(looks), Deadline.after(10), nothing) == ""


def test_a_passed_deadline_names_what_was_waited_for() -> None:
    started = time.monotonic()
    with pytest.raises(LabError, match=r"waited 0\.1 s in vain for the guest"):
        wait_for("the guest", lambda: None, Deadline.after(0.1), nothing)
    assert 0.1 <= time.monotonic() - started < 5


def test_one_look_is_taken_even_after_the_deadline() -> None:
    assert wait_for("it", lambda: 1, Deadline.after(-1), nothing) == 1


def test_a_lost_machine_ends_the_wait_before_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "POLL_SECONDS", 0.001)
    order: list[str] = []

    def watch() -> None:
        order.append("watch")
        if len(order) > 4:
            raise LostVMError("QEMU ended")

    with pytest.raises(LostVMError, match="QEMU ended"):
        wait_for("it", lambda: order.append("look"), Deadline.after(10), watch)
    assert order == ["watch", "look", "watch", "look", "watch"]
