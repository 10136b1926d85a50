"""Avocado's own formats say what the matrix says."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from cells import CELL
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report import xunit_tap
from fakeavocado import avocado, matrix_of

TESTS = ("good", "known", "warn", "bad", "skip", "error")
VERDICTS = ["PASS", "KNOWN", "WARN", "FAIL", "SKIP", "ERROR"]


def test_xunit_and_tap_of_a_job(tmp_path: Path) -> None:
    words = [f"test_it.py:Run.test_{name}" for name in TESTS]
    done = avocado(tmp_path, *words, "--hosts", "5.10", "--paging", "npt", "--max-parallel-tasks", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert [cell["verdict"] for cell in matrix_of(tmp_path)] == VERDICTS
    suite = ElementTree.parse(tmp_path / "results/latest/results.xml").getroot()  # noqa: S314
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["6", "1", "1", "1"]
    cases = list(suite.iter("testcase"))
    assert [case.find("properties/property[@name='verdict']").get("value") for case in cases] == VERDICTS  # type: ignore[union-attr]
    assert [[part.tag for part in case if part.tag in ("failure", "error", "skipped")] for case in cases] == [
        [], [], [], ["failure"], ["skipped"], ["error"],
    ]  # fmt: skip
    plan, *lines = (tmp_path / "results/latest/results.tap").read_text().splitlines()
    assert plan == "1..6"
    said = [(line.startswith("ok"), line.rpartition("# ")[2]) for line in lines]
    assert said == [
        (True, "PASS: why"), (True, "KNOWN: why"), (True, "WARN: why"), (False, "FAIL: why"), (True, "SKIP why"),
        (False, "ERROR: why"),
    ]  # fmt: skip


def test_whatever_a_reason_holds_the_files_stay_whole(tmp_path: Path) -> None:
    (tmp_path / "results.xml").write_text('<testsuite><testcase name="a;b"/><testcase name="other"/></testsuite>')
    (tmp_path / "results.tap").write_text("1..1\nnot ok 1 a;b\nok 2 # SKIP interrupted\n")
    cell = replace(CELL, verdict=Verdict.FAIL, reason="<&]]> \0\x1b\ud800 a\nb # SKIP")
    xunit_tap.annotate(tmp_path, {"a;b": cell})
    suite = ElementTree.parse(tmp_path / "results.xml").getroot()  # noqa: S314
    assert [element.get("value") for element in suite.iter("property")] == ["FAIL", "<&]]> ??? a\nb # SKIP"]
    assert (tmp_path / "results.tap").read_text().splitlines()[2] == "ok 2 # SKIP interrupted"
    assert not list(tmp_path.glob("*.partial"))


def test_a_job_without_these_files_is_left_alone(tmp_path: Path) -> None:
    xunit_tap.annotate(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
