"""The lay-out of a matrix, its summary, and what its writers show."""

import io
from dataclasses import replace
from pathlib import Path

from cells import CELL
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell
from cpuidlab.report.markdown import markdown
from cpuidlab.report.matrix import grid, remarkable
from cpuidlab.report.page import html
from cpuidlab.report.report import report_of
from cpuidlab.report.terminal import terminal
from cpuidlab.report.write import write_all
from rich.console import Console


def cell(host: str = "5.10", paging: str = "npt", verdict: Verdict = Verdict.PASS, reason: str = "ok") -> Cell:
    release = f"{host.partition('+')[0]}.0-1"
    return replace(CELL, case="identical", host=host, release=release, paging=paging, verdict=verdict, reason=reason)


def summary(cells: tuple[Cell, ...]) -> str:
    return report_of(cells).summary


FOUR = tuple(cell(host, paging) for host in ("5.10", "7.3") for paging in ("npt", "shadow"))


def seen_in_terminal(cells: tuple[Cell, ...]) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(terminal(report_of(cells), width=100))
    return out.getvalue()


def test_the_grid_shows_what_was_not_tested() -> None:
    table = grid(FOUR[:3])
    assert table.columns == (("5.10", "npt"), ("5.10", "shadow"), ("7.3", "npt"), ("7.3", "shadow"))
    assert table.untested == 1
    assert grid(FOUR, planned=[("5.10", "npt"), ("6.12", "npt")]).hosts == ("5.10", "6.12", "7.3")
    assert "untested" in markdown(report_of(FOUR[:3]))
    assert "untested" in seen_in_terminal(FOUR[:3])
    assert 'data-o="untested"' in html(report_of(FOUR[:3]))
    assert 'data-o="untested"' not in html(report_of(FOUR))


def test_of_two_cells_at_one_place_the_weightier_is_shown() -> None:
    both = (cell(verdict=Verdict.FAIL), cell())
    for cells in (both, both[::-1]):
        shown = grid(cells).find(("identical", "hook"), ("5.10", "npt"))
        assert shown is not None
        assert shown.verdict is Verdict.FAIL


def test_summary_names_the_hosts() -> None:
    assert summary(()) == "No host was tested."
    assert summary(FOUR) == "All 2 hosts do what they promise."
    assert summary(FOUR[:2]) == "The one host tested (5.10) does what it promises."
    bad = (*FOUR, cell("6.1", verdict=Verdict.FAIL), cell("6.1", "shadow", verdict=Verdict.FAIL))
    assert summary(bad) == "1 of 3 hosts does not do what was promised: 6.1 (2 FAIL)."
    assert "backport: 6.1 (1 WARN)." in summary((cell("6.1", verdict=Verdict.WARN),))
    assert "known defect: 6.1 (1 KNOWN)." in summary((cell("6.1", verdict=Verdict.KNOWN),))
    assert summary(FOUR[:3]).endswith("as far as tested. Untested: 1 cell.")


def test_an_error_is_neither_good_nor_bad() -> None:
    error = cell("6.1", verdict=Verdict.ERROR, reason="the guest did not answer SSH")
    assert summary((error,)).startswith("No host was tested. Not all could be tested, the lab failed: 6.1 (1 ERROR).")
    mixed = summary((*FOUR[:2], error, cell("6.1", "shadow", verdict=Verdict.ERROR)))
    assert mixed.startswith("The one host tested (5.10) does what it promises, as far as tested. ")
    for text in (markdown(report_of((error,))), seen_in_terminal((error,))):
        assert "ERROR" in text
        assert "FAIL" not in text
        assert "PASS" not in text


def test_the_weightiest_come_first() -> None:
    cells = [cell(verdict=verdict) for verdict in (Verdict.SKIP, Verdict.PASS, Verdict.ERROR, Verdict.FAIL)]
    assert [one.verdict for one in remarkable(cells)] == [Verdict.FAIL, Verdict.ERROR, Verdict.SKIP]


def test_markdown_shows_what_stands_in_the_cells() -> None:
    odd = replace(cell("7.3", verdict=Verdict.FAIL, reason="line one\nline two"), case="*odd|*")
    lines = markdown(report_of((*FOUR, odd), header={"QEMU": "7.2.22"})).splitlines()
    rows = [line.replace("\\|", "").count("|") for line in lines if line.startswith("|")]
    assert set(rows[-6:]) == {6}  # head, rule, and for each of two groups its title and one promise
    assert r"- **FAIL** \*odd\|\*, 7.3 npt: line one" in lines
    assert "- QEMU: 7.2.22" in lines


def test_all_files_are_written(tmp_path: Path) -> None:
    write_all(report_of(FOUR), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "matrix-header.json", "matrix.html", "matrix.json", "matrix.md",
    ]  # fmt: skip
    write_all(report_of(()), tmp_path)
    assert "No host was tested." in (tmp_path / "matrix.html").read_text()
