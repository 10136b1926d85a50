"""The cells of a job's tests, and Avocado with our plug-ins on a stand-in for the kernels."""

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cells import CELL
from cpuidlab.avocado_plugin import cell_file, plan, results
from cpuidlab.base.errors import UsageError
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell
from fakeavocado import avocado, matrix_of, said, start
from fakesetup import fake_setup
from waiting import ended, until


@pytest.fixture(autouse=True)
def _no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "setup", fake_setup)


# cells


@pytest.fixture(autouse=True)
def no_temporary_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    assert tmp_path.is_dir()  # not in the folder that comes now
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # Avocado's socket needs a short path
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
        until(lambda: not any(Path(folder).iterdir()))


def test_a_cell_comes_back_as_written(tmp_path: Path) -> None:
    assert cell_file.read_cell(tmp_path) is None
    cell_file.write_cell(CELL, tmp_path)
    assert cell_file.read_cell(tmp_path) == CELL


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1, "cells": []}'])
def test_half_a_cell_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / cell_file.CELL_FILE).write_text(text)
    with pytest.raises(UsageError):
        cell_file.read_cell(tmp_path)


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("tests/test_after_run.py:AfterRun.test_same_model", "after_run/same_model"),
        ("/bin/true", "true"),
        ("a.py:test", "a/test"),
    ],
)
def test_a_case_has_a_name_even_if_nobody_named_it(test: str, name: str) -> None:
    assert cell_file.case_of(test) == name


def result(folder: Path, number: int, status: str, cell: Cell | str | None, reason: str = "") -> Any:
    """What Avocado keeps of a test, which has written `cell`."""
    data = folder / str(number) / "data"
    data.mkdir(parents=True)
    if isinstance(cell, Cell):
        cell_file.write_cell(cell, data)
    elif cell is not None:
        (data / cell_file.CELL_FILE).write_text(cell)
    name = SimpleNamespace(uid=number, name="tests/test_run.py:Run.test_t", variant="5.10-npt")
    return {"name": name, "status": status, "fail_reason": reason or None, "logdir": str(data.parent)}


def collected(folder: Path, *tests: Any) -> tuple[Cell, ...]:
    return results.cells_of(tests, plan.plan("5.10", "npt"), folder)


@pytest.mark.parametrize(
    ("status", "written", "shown"),
    [
        ("PASS", "PASS", "PASS"), ("WARN", "PASS", "PASS"), ("PASS", "KNOWN", "KNOWN"), ("WARN", "WARN", "WARN"),
        ("FAIL", "FAIL", "FAIL"), ("ERROR", "FAIL", "FAIL"), ("CANCEL", "SKIP", "SKIP"), ("ERROR", "ERROR", "ERROR"),
        ("ERROR", "PASS", "ERROR"), ("INTERRUPTED", "PASS", "ERROR"), ("FAIL", "KNOWN", "ERROR"),
        ("ERROR", "WARN", "ERROR"), ("ERROR", "SKIP", "ERROR"),
    ],
)  # fmt: skip
def test_a_test_that_goes_wrong_after_its_verdict_is_no_pass(
    tmp_path: Path, status: str, written: str, shown: str
) -> None:
    (cell,) = collected(tmp_path, result(tmp_path, 1, status, replace(CELL, verdict=Verdict(written)), "leak"))
    assert cell.verdict == shown
    assert cell.reason == "ok" or cell.reason.startswith(
        f"after its verdict {written} the test ended with {status}: leak"
    )
    assert cell.evidence == "1/data"


@pytest.mark.parametrize(
    ("status", "text", "verdict", "reason"),
    [
        ("ERROR", None, "ERROR", "the test left no verdict and ended with ERROR: killed"),
        ("INTERRUPTED", None, "ERROR", "the test left no verdict and ended with INTERRUPTED: killed"),
        ("PASS", None, "ERROR", "the test left no verdict and ended with PASS: killed"),
        ("FAIL", None, "ERROR", "the test left no verdict and ended with FAIL: killed"),
        ("SKIP", None, "SKIP", "killed"),
        ("CANCEL", "{", "ERROR", "the test left no verdict and ended with CANCEL: "),
    ],
)
def test_a_test_without_a_cell_is_never_lost(
    tmp_path: Path, status: str, text: str | None, verdict: str, reason: str
) -> None:
    (cell,) = collected(tmp_path, result(tmp_path, 1, status, text, "killed"))
    assert (cell.verdict, cell.case, cell.host, cell.paging) == (verdict, "run/t", "5.10", "npt")
    assert cell.release == "5.10.0-amd64"
    assert cell.reason.startswith(reason)


def test_a_lost_test_stands_in_the_row_of_its_siblings_and_in_the_order_of_the_job(tmp_path: Path) -> None:
    lost, good = result(tmp_path, 10, "ERROR", None), result(tmp_path, 9, "PASS", CELL)
    first, second = collected(tmp_path, lost, good)
    assert (first.verdict, second.verdict) == ("PASS", "ERROR")
    assert (second.case, second.route) == (CELL.case, CELL.route)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ("PASS", 0), ("PASS KNOWN WARN SKIP", 0), ("PASS FAIL", 1), ("ERROR FAIL", 1), ("PASS ERROR", 125),
        ("", 125), ("SKIP", 125),
    ],
)  # fmt: skip
def test_exit_codes(verdicts: str, code: int) -> None:
    cells = [replace(CELL, verdict=Verdict(one)) for one in verdicts.split()]
    assert results.exit_code(cells) == code
    assert results.exit_code(cells, unfinished=1) == (code or 125)


# Avocado itself, with stand-ins for what needs kernels


def test_a_good_job_leaves_its_matrix_beside_avocados_results(tmp_path: Path) -> None:
    done = avocado(tmp_path, "test_it.py:Run.test_good", "--hosts", "5.10+warning", "--era", "warn", "--cold")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_it.py:Run.test_good" not in done.stdout  # no line for each test
    assert "  5.10+warning-npt     1 cell: 1 PASS\n" in done.stdout
    assert "The one host tested (5.10+warning) does what it promises." in done.stdout
    assert "JOB TIME" in done.stdout  # printed by a plug-in that must come before our exit
    assert [cell["probed"] for cell in matrix_of(tmp_path)] == [
        "['5.10+warning', 'npt', 'warn', True]", "['5.10+warning', 'shadow', 'warn', True]",
    ]  # fmt: skip
    job = tmp_path / "results/latest"
    wanted = ("matrix.html", "matrix.md", "results.json", "results.xml", "results.tap", "results.html")
    assert [name for name in wanted if not (job / name).is_file()] == []
    assert all((job / cell["evidence"] / cell_file.CELL_FILE).is_file() for cell in matrix_of(tmp_path))


def test_lost_tests_are_errors_and_a_broken_promise_outweighs_them(tmp_path: Path) -> None:
    only = ("--hosts", "5.10", "--paging", "npt")
    soon = "from cpuidlab.avocado_plugin import spawner; spawner.GONE_SECONDS = 3\n"
    done = avocado(tmp_path, "test_it.py:Run.test_killed", "test_it.py:Run.test_runner_killed", *only, before=soon)
    assert done.returncode == 125, done.stdout + done.stderr
    assert [cell["verdict"] for cell in matrix_of(tmp_path)] == ["ERROR", "ERROR"]
    assert "ERROR case (hook), 5.10 npt: after its verdict PASS the test ended with ERROR" in done.stdout
    until(partial(ended, int((tmp_path / "orphan").read_text())), seconds=5)
    done = avocado(tmp_path, "test_it.py:Run.test_bad", "test_it.py:Run.test_killed", *only, before=soon)
    assert done.returncode == 1, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("how", "words", "line", "code"),
    [
        ("well", ("--hosts", "foo"), "cpuidlab: host 'foo' is not understood", 2),
        ("well", ("--kernels", "/none.toml"), "cpuidlab: there is no file /none.toml, which is named for --kernels", 2),
        ("broken", (), "cpuidlab: no boot today", 125),
        ("interrupted", (), "cpuidlab: interrupted", 130),
        ("terminated", (), "cpuidlab: terminated", 143),
        ("defect", (), "cpuidlab: RuntimeError: oops (<string>:26); this is a defect of the lab", 125),
    ],
)
def test_what_cannot_be_prepared_is_one_line_and_no_job(
    tmp_path: Path, how: str, words: tuple[str, ...], line: str, code: int
) -> None:
    done = avocado(tmp_path, "test_it.py", *words, how=how)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout == ""
    assert said(done)[0].startswith(line)
    assert len(said(done)) == 1
    assert not (tmp_path / "results").exists()


def test_nothing_outlives_an_avocado_that_is_killed(tmp_path: Path, no_temporary_file_is_left: Path) -> None:
    with start(tmp_path, "test_it.py:Run.test_long", "--hosts", "5.10", "--paging", "npt") as process:
        try:
            until((tmp_path / "pids").exists)
            assert any(no_temporary_file_is_left.rglob(".status_server.sock"))
        finally:
            process.kill()
    for pid in (tmp_path / "pids").read_text().split():
        until(partial(ended, int(pid)))


def test_an_interrupted_job_is_neither_good_nor_bad(tmp_path: Path) -> None:
    with start(tmp_path, "test_it.py:Run.test_long", "--hosts", "5.10", "--paging", "npt") as process:
        try:
            until((tmp_path / "pids").exists)
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):  # Avocado may lose a Ctrl-C that comes while it starts a process
                process.wait(10)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()
