"""A job that was interrupted goes on: what stands is kept, what failed in the lab or has new inputs is run again."""

import json
from dataclasses import replace
from pathlib import Path

import bigmatrix
import pytest
from cells import CELL
from cpuidlab.avocado_plugin import cell_file, journal
from cpuidlab.avocado_plugin.journal import Line
from cpuidlab.base.errors import UsageError
from cpuidlab.experiment.facts import Answer, Facts
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell
from fakeavocado import avocado, matrix_of, said, start
from waiting import until

NAME = ("tests/test_a.py:A.test_b", "5.10-npt")


def noted(folder: Path, cell: Cell | None = CELL, status: str = "PASS", key: str = "k") -> Line:
    """A test that has ended, its evidence on the disk."""
    evidence = folder / "1"
    (evidence / "data").mkdir(parents=True, exist_ok=True)
    if cell:
        cell_file.write_cell(cell, evidence / "data")
    line = Line(*NAME, key, status, "", str(evidence))
    journal.note(folder, line)
    return line


def kept(folder: Path) -> list[Line]:
    return list(journal.decided(folder, lambda *_: "k").values())


@pytest.mark.parametrize(
    ("verdict", "status", "stays"),
    [
        ("PASS", "PASS", True), ("KNOWN", "PASS", True), ("WARN", "WARN", True), ("FAIL", "FAIL", True),
        ("SKIP", "CANCEL", True), ("ERROR", "ERROR", False), ("PASS", "ERROR", False), ("PASS", "INTERRUPTED", False),
        ("FAIL", "ERROR", False),
    ],
)  # fmt: skip
def test_what_was_decided_stays(tmp_path: Path, verdict: str, status: str, stays: bool) -> None:
    noted(tmp_path, replace(CELL, verdict=Verdict(verdict)), status)
    assert bool(kept(tmp_path)) is stays


def test_without_a_whole_cell_nothing_stays(tmp_path: Path) -> None:
    noted(tmp_path, cell=None)
    assert kept(tmp_path) == []
    (tmp_path / "1/data" / cell_file.CELL_FILE).write_text("{")
    assert kept(tmp_path) == []


def test_a_cell_in_the_schema_before_stays(tmp_path: Path) -> None:
    line = noted(tmp_path)
    old = json.loads(Path(bigmatrix.__file__).with_name("matrix-schema1.json").read_text())
    folder = tmp_path / "1/data"
    (folder / cell_file.CELL_FILE).write_text(json.dumps(old | {"cells": old["cells"][:1]}))
    assert kept(tmp_path) == [line]
    cell = cell_file.read_cell(folder)
    assert cell is not None
    assert cell.facts == Facts(answers=(Answer(None, "accepted"),))


def test_other_inputs_are_another_test(tmp_path: Path) -> None:
    noted(tmp_path, key="old")
    assert kept(tmp_path) == []


def test_the_last_word_on_a_test_counts_and_half_a_line_is_none(tmp_path: Path) -> None:
    noted(tmp_path, key="old")
    line = noted(tmp_path)
    with (tmp_path / journal.FILE).open("a") as file:
        file.write('{"test": "tests/te')
    assert kept(tmp_path) == [line]


def test_no_journal_is_no_job(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no journal"):
        kept(tmp_path)


def test_the_key_changes_with_all_that_a_verdict_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = tmp_path / "test_a.py"
    test.write_text("first")
    keys = [
        journal.key(f"{test}:A.test_b", *rest)
        for rest in (("place", "", False), ("other", "", False), ("place", "warn", False), ("place", "", True))
    ]
    test.write_text("second")
    keys.append(journal.key(f"{test}:A.test_b", "place", "", False))
    monkeypatch.setattr(journal, "project_digest", lambda: "changed")
    keys.append(journal.key(f"{test}:A.test_b", "place", "", False))
    assert len(set(keys)) == len(keys)


def test_the_projects_digest_covers_code_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tooling, guests = tmp_path / "tooling", tmp_path / "guests"
    for folder in (tooling, guests):
        folder.mkdir()
    monkeypatch.setattr(journal, "TOOLING", tooling)
    monkeypatch.setattr(journal, "GUESTS", guests)
    seen = []
    for file in ("tooling/a.py", "tooling/eras.toml", "tooling/x.patch", "tooling/hook.c", "guests/rc", "guests/rc"):
        (tmp_path / file).write_text(f"{file}{len(seen)}")
        journal.project_digest.cache_clear()
        seen.append(journal.project_digest())
    journal.project_digest.cache_clear()
    assert len(set(seen)) == len(seen)


# Avocado itself, on the stand-ins of test_plugins

ONE = ("--hosts", "5.10", "--paging", "npt", "--max-parallel-tasks", "1")


def test_a_job_that_is_killed_is_resumed(tmp_path: Path) -> None:
    with start(tmp_path, "test_it.py:Run.test_good", "test_it.py:Run.test_long", *ONE) as process:
        try:
            until((tmp_path / "pids").exists)
        finally:
            process.kill()
    tests = ("test_it.py:Run.test_good", "test_it.py:Run.test_bad", *ONE)
    done = avocado(tmp_path, *tests, "--resume", "last")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 tests were kept from the job that was resumed." in done.stdout
    assert [cell["verdict"] for cell in matrix_of(tmp_path)] == ["PASS", "FAIL"]
    job = (tmp_path / "results/latest").resolve()
    assert all((job / cell["evidence"] / cell_file.CELL_FILE).is_file() for cell in matrix_of(tmp_path))
    again = avocado(tmp_path, *tests, "--resume", str(job))
    assert again.returncode == 1, again.stdout + again.stderr
    assert "2 tests were kept" in again.stdout  # what was kept is kept once more, and so is a FAIL
    assert (tmp_path / "count").read_text() == "b"  # how often test_bad was run
    assert json.loads((tmp_path / "results/latest/results.json").read_text())["failures"] == 1


def test_what_failed_in_the_lab_is_run_again(tmp_path: Path) -> None:
    broken = avocado(tmp_path, "test_it.py:Run.test_good", "--hosts", "6.1,5.10", "--paging", "npt", how="broken 6.1")
    assert broken.returncode == 125
    done = avocado(
        tmp_path, "test_it.py:Run.test_good", "--hosts", "6.1,5.10", "--paging", "npt", "--resume", "last"
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 tests were kept" in done.stdout
    assert [cell["verdict"] for cell in matrix_of(tmp_path)] == ["PASS", "PASS"]


@pytest.mark.parametrize("named", ["last", "nowhere"])
def test_what_is_resumed_must_be_a_job(tmp_path: Path, named: str) -> None:
    done = avocado(tmp_path, "test_it.py:Run.test_good", "--hosts", "5.10", "--resume", named)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said(done)[0].startswith("cpuidlab: --resume")
    assert len(said(done)) == 1
    assert not (tmp_path / "results").exists()
