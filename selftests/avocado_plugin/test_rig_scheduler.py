"""Rigs made while tests run: whose turn it is, what a host in trouble means, and the job that goes on meanwhile."""

import signal
import threading
import time
from pathlib import Path

import pytest
from cpuidlab.avocado_plugin.rig_scheduler import Ahead, Slots
from cpuidlab.base.errors import LabError, UsageError
from fakeavocado import avocado, matrix_of, start
from waiting import until


def held(slots: Slots) -> threading.Event:
    """A rig that is being made until the event is set; returns when it has its slot."""
    begun, end = threading.Event(), threading.Event()

    def make() -> None:
        with slots.making():
            begun.set()
            end.wait(10)

    threading.Thread(target=make, daemon=True).start()
    begun.wait(0.2)
    end.begun = begun  # type: ignore[attr-defined]
    return end


def has_begun(making: threading.Event) -> bool:
    return making.begun.wait(0.2)  # type: ignore[attr-defined,no-any-return]


def test_tests_and_rigs_that_are_made_share_the_slots() -> None:
    slots = Slots(2)
    first = held(slots)
    assert has_begun(first)
    assert slots.take()
    assert not slots.take()
    first.set()
    until(slots.take)


def test_without_tests_as_many_rigs_are_made_as_there_are_slots() -> None:
    slots = Slots(2)
    made = [held(slots), held(slots)]
    assert all(map(has_begun, made))
    assert not slots.take()


def test_while_a_test_waits_only_one_rig_is_made() -> None:
    slots = Slots(2)
    assert slots.take()
    assert slots.take()
    slots.a_test_waits(1)
    made = [held(slots), held(slots)]
    slots.give_back()
    until(lambda: sum(map(has_begun, made)) == 1)
    slots.give_back()
    assert sum(map(has_begun, made)) == 1
    assert slots.take()
    slots.a_test_waits(-1)
    slots.give_back()
    assert all(map(has_begun, made))


def test_on_one_slot_tests_and_rigs_take_turns() -> None:
    slots = Slots(1)
    first = held(slots)
    slots.a_test_waits(1)
    second = held(slots)
    first.set()
    assert not has_begun(second)  # the test's turn
    assert slots.take()
    slots.give_back()
    assert has_begun(second)


def test_places_are_made_in_order_and_trouble_stays_where_it_is() -> None:
    done: list[str] = []

    def fails() -> None:
        raise LabError("no boot")

    def defect() -> None:
        raise RuntimeError("oops")

    works = {
        "a": (lambda: done.append("a1"), lambda: done.append("a2")),
        "b": (fails, lambda: done.append("never")),
        "c": (defect,),
        "d": (lambda: done.append("d"),),
    }
    making = Ahead(works, dict.fromkeys(works, Slots(1)))
    assert not making.is_ready("a")
    making.begin()
    assert making.wait("d") is None
    assert done == ["a1", "a2", "d"]
    assert str(making.trouble("b")) == "no boot"
    assert str(making.trouble("c")) == "RuntimeError: oops; this is a defect of the lab"
    assert making.is_ready("unknown")
    assert making.trouble("unknown") is None


def test_each_machine_has_slots_of_its_own() -> None:
    begun, end = [threading.Event(), threading.Event()], threading.Event()

    def make(number: int) -> None:
        begun[number].set()
        end.wait(10)

    works = {"a": (lambda: make(0),), "b": (lambda: make(1),)}
    here, there = Slots(1), Slots(1)
    making = Ahead(works, {"a": here, "b": there})
    making.begin()
    assert all(each.wait(5) for each in begun)
    assert (making.slots_of("a"), making.slots_of("b"), making.slots_of("unknown")) == (here, there, None)
    end.set()


def test_bad_input_found_late_is_trouble_too() -> None:
    def fails() -> None:
        raise UsageError("the patch does not apply")

    making = Ahead({"a": (fails,)}, {"a": Slots(2)})
    making.begin()
    assert isinstance(making.wait("a"), UsageError)


# Avocado itself, on the stand-ins of test_plugins


def test_a_host_that_cannot_be_made_has_errors_with_one_line_and_the_others_are_tested(tmp_path: Path) -> None:
    words = ("test_it.py:Run.test_good", "--hosts", "6.1,5.10", "--paging", "npt")
    done = avocado(tmp_path, *words, how="broken 6.1")
    assert done.returncode == 125, done.stdout + done.stderr
    found = [(cell["host"], cell["verdict"], cell["reason"]) for cell in matrix_of(tmp_path)]
    assert found == [("6.1", "ERROR", "no boot today"), ("5.10", "PASS", "why")]
    assert done.stderr.count("nothing can be tested on 6.1-npt: no boot today") == 1


def test_tests_of_the_first_host_run_while_the_next_one_is_made(tmp_path: Path) -> None:
    words = ("test_it.py:Run.test_seen", "--hosts", "5.10,6.1", "--paging", "npt")
    done = avocado(tmp_path, *words, "--max-parallel-tasks", "2", how="slow 6.1")
    assert done.returncode == 0, done.stdout + done.stderr
    seen = {cell["host"]: cell["probed"] for cell in matrix_of(tmp_path)}
    assert seen == {"5.10": "False", "6.1": "True"}  # whether 6.1 was saved when the test ran


@pytest.mark.parametrize("parallel", ["1", "2"])
def test_an_interrupted_job_does_not_wait_for_rigs(tmp_path: Path, parallel: str) -> None:
    words = ("test_it.py:Run.test_good", "--hosts", "5.10,6.1", "--paging", "npt", "--max-parallel-tasks", parallel)
    with start(tmp_path, *words, how="never 6.1") as process:
        try:
            until((tmp_path / "waits").exists)
            until(lambda: any(tmp_path.glob("results/job-*/journal.jsonl")))
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()
