"""The report for KCIDB, held against what schema 5 of kcidb-io asks for: names, required fields, forms of ids."""

import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import bigmatrix
import pytest
from cells import CELL
from cpuidlab.base.errors import UsageError
from cpuidlab.commands import cli
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report import kcidb, matrix_file
from cpuidlab.report.cell import Cell

# What each kind of object may hold, and must.
FIELDS = {
    "checkouts": ({"id", "origin", "tree_name", "git_commit_name", "comment"}, {"id", "origin"}),
    "builds": ({"id", "origin", "checkout_id", "architecture", "comment"}, {"id", "origin", "checkout_id"}),
    "tests": (
        {"id", "origin", "build_id", "path", "status", "start_time", "comment", "log_excerpt", "environment", "misc"},
        {"id", "origin", "build_id"},
    ),
    "issues": ({"id", "origin", "version", "culprit", "comment"}, {"id", "origin", "version"}),
    "incidents": (
        {"id", "origin", "issue_id", "issue_version", "test_id", "present"},
        {"id", "origin", "issue_id", "issue_version"},
    ),
}


def exported(folder: Path, *cells: Cell, origin: str = kcidb.ORIGIN) -> dict[str, Any]:
    matrix_file.write(cells, folder / "matrix.json")
    found: dict[str, Any] = json.loads(kcidb.export(folder / "matrix.json", origin))
    return found


def check(report: dict[str, Any]) -> None:
    """What the schema says, as far as this report goes."""
    assert report["version"]["major"] == 5
    assert set(report) == {"version", *FIELDS}
    for kind, (may, must) in FIELDS.items():
        assert len({one["id"] for one in report[kind]}) == len(report[kind])
        for one in report[kind]:
            assert must <= set(one) <= may
            assert all(re.fullmatch(r"[a-z0-9_]+:[^\0]*", value) for key, value in one.items() if key.endswith("id"))
            assert one["id"].startswith(f"{one['origin']}:")
            assert "\0" not in json.dumps(one)
            assert "\\u0000" not in json.dumps(one)
    for test in report["tests"]:
        assert test["status"] in ("FAIL", "ERROR", "MISS", "PASS", "DONE", "SKIP")
        assert re.fullmatch(r"[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*", test["path"])
        assert datetime.fromisoformat(test["start_time"]).tzinfo
        assert len(test.get("log_excerpt", "")) <= 16384
    for one, kind, key in (("builds", "checkouts", "checkout_id"), ("tests", "builds", "build_id"),
                           ("incidents", "tests", "test_id"), ("incidents", "issues", "issue_id")):  # fmt: skip
        assert {item[key] for item in report[one]} <= {item["id"] for item in report[kind]}


def test_every_verdict_has_its_status(tmp_path: Path) -> None:
    cells = [replace(CELL, case=f"a/{one}", verdict=one) for one in Verdict]
    report = exported(tmp_path, *cells)
    check(report)
    assert {test["misc"]["verdict"]: test["status"] for test in report["tests"]} == {
        "PASS": "PASS", "KNOWN": "FAIL", "WARN": "PASS", "FAIL": "FAIL", "SKIP": "SKIP", "ERROR": "ERROR",
    }  # fmt: skip


def test_a_known_defect_is_one_issue_and_an_incident_for_each_test(tmp_path: Path) -> None:
    known = replace(CELL, verdict=Verdict.KNOWN, reason="known: 93da6af3ae56\nmore")
    report = exported(tmp_path, known, replace(known, paging="shadow"), CELL)
    check(report)
    assert [issue["comment"] for issue in report["issues"]] == ["known: 93da6af3ae56"]
    assert len(report["incidents"]) == 2


def test_what_was_not_tested_is_missing(tmp_path: Path) -> None:
    report = exported(tmp_path, CELL, replace(CELL, case="after_run/y", host="6.1", release="6.1.0"))
    check(report)
    assert [test["status"] for test in report["tests"]] == ["PASS", "MISS", "MISS", "PASS"]


@pytest.mark.parametrize("host", ["5.10+/tmp/a b.patch", "ssh://root@lab:22", "tree:/ä/ö"])
def test_odd_names_and_long_reasons(tmp_path: Path, host: str) -> None:
    odd = replace(CELL, case="ä b/c.d", host=host, release="", reason="\0" + "x" * 20000, route="")
    check(exported(tmp_path, odd, origin="my_ci"))


def test_a_matrix_in_the_schema_before_is_exported_too() -> None:
    found = json.loads(kcidb.export(Path(bigmatrix.__file__).with_name("matrix-schema1.json")))
    check(found)
    assert "warned, missed fault, then fault" in {test["misc"].get("observed") for test in found["tests"]}


def test_two_runs_share_no_test_but_their_kernels(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first, second = exported(tmp_path, CELL), exported(tmp_path / "b", CELL)
    times = iter(
        (datetime.fromisoformat("2026-01-01T00:00:00+00:00"), datetime.fromisoformat("2026-01-02T00:00:00+00:00"))
    )
    first, second = (kcidb.report([CELL], "a", next(times)) for _ in range(2))
    assert first["builds"] == second["builds"]
    assert first["tests"][0]["id"] != second["tests"][0]["id"]


@pytest.mark.parametrize("origin", ["", "My CI", "a:b", "a-b"])
def test_an_origin_must_be_a_name(tmp_path: Path, origin: str) -> None:
    with pytest.raises(UsageError, match="is no origin"):
        exported(tmp_path, CELL, origin=origin)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix_file.write([CELL], tmp_path / "matrix.json")
    assert cli.main(["export", "--kcidb", str(tmp_path / "matrix.json"), "--origin", "lab7"]) == 0
    assert json.loads(capsys.readouterr().out)["builds"][0]["origin"] == "lab7"
    assert cli.main(["export", "--kcidb", str(tmp_path / "none.json")]) == 2
