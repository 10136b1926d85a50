"""Where a job stands: counts, the line of a column that is complete, and how long the rest takes."""

import pytest
from cpuidlab.avocado_plugin.estimate import Outlook
from cpuidlab.avocado_plugin.job_progress import JobProgress
from cpuidlab.base.speed import CELL, KERNEL, PATCHED, RIG, Speed

OUTLOOK = Outlook(("5.10", "6.1"), ("npt",), 3, False, ("6.1",), (), 30, 0, 6)


@pytest.fixture
def job() -> JobProgress:
    """Of two columns with three tests each, on a machine that makes two at a time."""
    return JobProgress(OUTLOOK, Speed({CELL: 20.0, RIG: 60.0, KERNEL: 30.0, PATCHED: 30.0}), 2)


def begin(job: JobProgress) -> None:
    job.planned({"5.10-npt": 3, "6.1-npt": 3})
    job.begin({"5.10-npt": 3, "6.1-npt": 3}, {"5.10-npt": "", "6.1-npt": ""})


def test_before_anything_is_made(job: JobProgress) -> None:
    assert job.left() == 30 + (6 * 60 + 6 * 20) / 2
    assert job.line() == "rigs 0 of 6, cells 0 of 6; about 4 minutes left"


def test_a_fetched_kernel_is_not_waited_for_again(job: JobProgress) -> None:
    job.step_ended("kernels: 6.1.0-amd64", 30.0)
    assert job.left() == (6 * 60 + 6 * 20) / 2


def test_a_rig_that_is_made_before_the_plan_is_known_is_one_of_all(job: JobProgress) -> None:
    job.step_ended("rigs: 5.10-npt-host", 60.0)
    assert job.line().startswith("rigs 1 of 6, ")


def test_the_plan_knows_better_than_the_outlook(job: JobProgress) -> None:
    job.planned({"5.10-npt": 0, "6.1-npt": 1})
    assert job.line().startswith("rigs 0 of 1, cells 0 of 6;")
    assert job.left() == (60 + 6 * 20) / 2
    job.planned({"6.1-npt": 1})  # a host was left out
    assert job.line().startswith("rigs 0 of 1, cells 0 of 3;")


def test_rigs_and_cells_are_counted(job: JobProgress) -> None:
    begin(job)
    job.step_ended("rigs: 5.10-npt-host", 60.0)
    job.step_ended("restorable: 5.10-npt-host_ready", 1.0)
    assert job.test_ended("5.10-npt", "PASS") is None
    assert job.test_ended("5.10-npt", "KNOWN") is None
    assert job.line() == "rigs 1 of 6, cells 2 of 6: 1 PASS, 1 KNOWN; about 3 minutes left"


def test_real_machines_work_side_by_side(job: JobProgress) -> None:
    job.planned({"6.1-npt": 0, "ssh:a-npt": 0, "ssh:a-shadow": 0, "ssh:b-npt": 0})
    job.begin(
        {"6.1-npt": 8, "ssh:a-npt": 4, "ssh:a-shadow": 4, "ssh:b-npt": 6},
        {"6.1-npt": "", "ssh:a-npt": "a", "ssh:a-shadow": "a", "ssh:b-npt": "b"},
    )
    assert job.left() == 8 * 20 / 2
    for _ in range(4):
        job.test_ended("6.1-npt", "PASS")
        job.test_ended("ssh:a-npt", "PASS")
    assert job.left() == 6 * 20 / 2  # those of b


def test_a_column_that_is_complete_is_told(job: JobProgress) -> None:
    begin(job)
    for verdict in ("PASS", "FAIL"):
        assert job.test_ended("6.1-npt", verdict) is None
    assert job.test_ended("6.1-npt", "PASS") == "6.1-npt   3 cells: 2 PASS, 1 FAIL"


def test_a_column_without_rigs_does_not_hold_up_the_time_that_is_left(job: JobProgress) -> None:
    begin(job)
    for _ in range(3):
        job.test_ended("6.1-npt", "ERROR")
    assert job.left() == (3 * 60 + 3 * 20) / 2


def test_more_rigs_than_planned_are_told_as_they_are(job: JobProgress) -> None:
    job.planned({"5.10-npt": 0})
    job.step_ended("rigs: 5.10-npt-host", 60.0)
    assert job.line().startswith("rigs 1 of 1, ")


def test_the_rate_so_far_changes_what_is_left(job: JobProgress) -> None:
    begin(job)
    before = job.left()
    for _ in range(10):
        job.cell_took(200.0)
    assert job.left() > before


def test_the_end(job: JobProgress) -> None:
    begin(job)
    for name in ("5.10-npt", "6.1-npt"):
        for _ in range(3):
            job.test_ended(name, "PASS")
    assert job.line() == "cells 6 of 6: 6 PASS"
    assert job.left() == 0


def test_a_test_of_an_unknown_column_is_counted_as_well(job: JobProgress) -> None:
    begin(job)
    assert job.test_ended("6.7-npt", "PASS") is None
    assert "1 PASS" in job.line()
