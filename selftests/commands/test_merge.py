"""The command `cpuidlab merge`: its files, its exit code, where evidence leads, and bad input."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bigmatrix
import pytest
from cells import CELL, REFUSED
from cpuidlab.commands import cli
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report import matrix_file
from cpuidlab.report.cell import Cell
from cpuidlab.report.report import report_of
from cpuidlab.report.write import ABOUT, UNFINISHED, write_all

SCHEMA_1 = Path(bigmatrix.__file__).with_name("matrix-schema1.json")  # written by the version before schema 2
OTHER = replace(CELL, host="6.1", release="6.1.0-56", facts=REFUSED)
FAIL = replace(CELL, verdict=Verdict.FAIL, reason="it should not")
ERROR = replace(CELL, verdict=Verdict.ERROR, facts=None, reason="no SSH")
FILES = {"matrix.json", "matrix.html", "matrix.md", ABOUT}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.rglob(".merge-*")) == []


def job(name: str, *cells: Cell, **header: str) -> Path:
    """Leave what a job leaves, with evidence for each cell."""
    path = Path(name)
    path.mkdir(parents=True)
    with_evidence = [replace(cell, evidence=f"test-results/{n}/data") for n, cell in enumerate(cells)]
    for cell in with_evidence:
        (path / cell.evidence).mkdir(parents=True)
        (path / cell.evidence / "rerun.txt").write_text(f"rerun in {name}")
    write_all(report_of(with_evidence, header=header), path)
    return path


def ran(*words: Path | str) -> int:
    return cli.main(["merge", *map(str, words)])


def test_folders_and_files_are_merged_into_a_folder_that_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(job("a", CELL), job("jobs/b", OTHER) / "matrix.json") == 0
    assert {path.name for path in Path("merged").iterdir()} == FILES
    assert [cell.host for cell in matrix_file.read(Path("merged/matrix.json"))] == ["5.10", "6.1"]
    output = capsys.readouterr()
    assert output.err == ""
    for text in ("All 2 hosts do what they promise.", "Merged: 2 jobs, 2 cells", "MATRIX     : merged/matrix.html"):
        assert text in output.out
    assert json.loads(Path("merged", ABOUT).read_text())["header"]["jobs"] == "a, jobs/b"


@pytest.mark.parametrize("out", ["merged", ".", "new/folder", "elsewhere"])
def test_evidence_leads_to_the_folder_of_its_job(out: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    if out == "elsewhere":
        Path(out).symlink_to(tmp_path_factory.mktemp("far"))
    job("jobs/1", CELL)
    Path("latest").symlink_to("jobs/1")
    assert ran("latest", job("jobs/2", OTHER), "--out", out) == 0
    Path("latest").unlink()  # as the next job does, which gives the link another target
    cells = matrix_file.read(Path(out, "matrix.json"))
    texts = [Path(os.path.realpath(out), cell.evidence, "rerun.txt").read_text() for cell in cells]
    assert texts == ["rerun in jobs/1", "rerun in jobs/2"]
    page = Path(out, "matrix.html").read_text()
    assert all(f'href="{cell.evidence}"' in page for cell in cells)
    assert all(text in page for text in texts)


def test_an_absolute_path_and_no_path_stay_as_they_are() -> None:
    path = job("a", CELL)
    matrix_file.write([replace(CELL, evidence="/results/x"), replace(OTHER, evidence="")], path / "matrix.json")
    assert ran(path) == 0
    assert [cell.evidence for cell in matrix_file.read(Path("merged/matrix.json"))] == ["/results/x", ""]


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (CELL, OTHER, 0),
        (CELL, CELL, 0),
        (CELL, replace(FAIL, host="6.1"), 1),
        (CELL, replace(ERROR, host="6.1"), 125),
        (replace(FAIL, host="6.1"), ERROR, 1),
        (CELL, replace(CELL, facts=REFUSED), 125),
        (CELL, ERROR, 125),
        (CELL, FAIL, 1),
        (ERROR, FAIL, 1),
    ],
)
def test_exit_codes(first: Cell, second: Cell, code: int) -> None:
    assert ran(job("a", first), job("b", second)) == code


def test_a_job_that_was_cut_short_is_named_and_exits_125(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(job("a", CELL), job("b", OTHER, **{UNFINISHED: "3 tests"})) == 125
    assert "b was cut short, not run: 3 tests" in capsys.readouterr().out
    assert ran("merged", "--out", "again") == 125  # a merged matrix is a job's matrix too


def test_each_conflict_is_a_line_and_an_error_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(job("a", CELL, OTHER), job("b", FAIL, OTHER)) == 1
    claim = "2 jobs disagree: a says PASS silent; b says FAIL silent"
    output = capsys.readouterr().out
    assert f"ERROR after_run/x (hook), 5.10 npt: {claim}" in output
    assert "in several jobs: 1 with the same result, 1 with different results." in output
    assert "FAIL is 1 of the different results, so the exit code is 1." in output
    for name in ("matrix.html", "matrix.md"):
        text = Path("merged", name).read_text()
        assert claim in text
        assert "1, each an ERROR below: after" in text
    shown = matrix_file.read(Path("merged/matrix.json"))[0]
    assert shown.evidence == "../b/test-results/0/data"
    assert "a: PASS, 5.10.0-46, tcg, ok, ../a/test-results/0/data" in shown.reason


def test_both_schemas_are_merged(capsys: pytest.CaptureFixture[str]) -> None:
    old = matrix_file.read(SCHEMA_1)
    job("new", *(cell for cell, _ in bigmatrix.big()))
    assert ran(SCHEMA_1, "new") == 1
    assert f"{len(old)} with the same result, 0 with different results." in capsys.readouterr().out


def test_a_matrix_that_is_named_twice_is_one_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(job("a", CELL), "a/", "a/matrix.json") == 0
    assert "Merged: 1 job, 1 cell; in several jobs: 0 with" in capsys.readouterr().out


def test_merging_again_replaces_the_merged_matrix() -> None:
    assert ran(job("a", CELL)) == 0
    assert ran("a", job("b", OTHER)) == 0
    assert len(matrix_file.read(Path("merged/matrix.json"))) == 2
    assert {path.name for path in Path("merged").iterdir()} == FILES


@pytest.mark.parametrize("bad", ["cut", "no such file", "garbled header", "folder without a matrix"])
def test_bad_input_is_one_line_and_nothing_is_overwritten(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = job("b", OTHER), Path("merged")
    assert ran(job("a", CELL)) == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    capsys.readouterr()
    if bad == "no such file":
        path = Path("gone.json")
    elif bad == "cut":
        (path / "matrix.json").write_text((path / "matrix.json").read_text()[:-20])
    elif bad == "garbled header":
        (path / ABOUT).write_text("{")
    elif bad == "folder without a matrix":
        (path / "matrix.json").unlink()
    for words in (["a", path], [path, "a"], ["a", path, "--out", "new"]):
        assert ran(*words) == 2
        output = capsys.readouterr()
        assert (output.out, output.err.count("\n")) == ("", 1)
        assert output.err.startswith("cpuidlab: ")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert not Path("new").exists()


def test_the_folder_of_a_job_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    before = (job("a", CELL) / "matrix.json").read_bytes()
    (job("b", OTHER) / "job.log").write_text("a job of Avocado's")
    for words in (["a", "--out", "a"], ["a", "b", "--out", "./a/"], ["a", "--out", "b"]):
        assert ran(*words) == 2
        assert "would be overwritten" in capsys.readouterr().err
    assert Path("a/matrix.json").read_bytes() == before


def test_a_file_of_another_name_may_lie_beside_the_merged_matrix_whose_head_is_not_its_own() -> None:
    for name in ("a.json", "b.json"):
        matrix_file.write([CELL], Path(name))
    for names in (("a.json", "b.json"), ("a.json",)):
        assert ran(*names, "--out", ".") == 0
        assert json.loads(Path(ABOUT).read_text())["header"] == {"jobs": ", ".join(names)}


def test_a_folder_that_cannot_be_written_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    job("a", CELL)
    assert ran("a", "--out", "file/below") == 2
    assert capsys.readouterr().err.startswith("cpuidlab: cannot write into ")


def test_a_failure_while_writing_leaves_the_merged_matrix_of_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(job("a", CELL), job("b", OTHER)) == 0
    before = {file.name: file.read_bytes() for file in Path("merged").iterdir()}

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cpuidlab.report.write.html", full)  # the last of the files
    assert ran("a") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in Path("merged").iterdir()} == before


def test_a_path_that_is_no_text_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"job-\xff")
    try:
        job("a", CELL).rename(name)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    assert ran(name) == 2
    assert "is no text in UTF-8" in capsys.readouterr().err


def test_control_characters_do_not_reach_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[31mred\x07"
    cells = [replace(FAIL, case=f"{evil}/{evil}", host=evil, release=evil, paging=evil, reason=evil, route=evil)]
    assert ran(job("a", *cells), job("b", *(replace(cell, release="x", facts=None) for cell in cells))) == 1
    assert all(sign.isprintable() or sign == "\n" for sign in capsys.readouterr().out)
