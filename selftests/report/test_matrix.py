import dataclasses
import io
import json
from pathlib import Path

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.markdown import markdown
from cpuidlab.report.matrix import Cell, grid, read, remarkable, summary, write
from cpuidlab.report.page import html
from cpuidlab.report.terminal import terminal
from cpuidlab.report.write import write_all
from rich.console import Console


def cell(host: str = "5.10", paging: str = "npt", verdict: Verdict = Verdict.PASS, **other: str) -> Cell:
    plain = {
        "case": "identical", "release": f"{host.partition('+')[0]}.0-1", "route": "hook", "accel": "tcg",
        "predicted": "silent", "probed": "silent", "observed": "silent",
        "reason": "silent: as promised", "evidence": "evidence/1",
    }  # fmt: skip
    return Cell(host=host, paging=paging, verdict=verdict, **{**plain, **other})


FOUR = tuple(cell(host, paging) for host in ("5.10", "7.3") for paging in ("npt", "shadow"))


def seen_in_terminal(cells: tuple[Cell, ...]) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(terminal(cells, width=100))
    return out.getvalue()


def test_json_form(tmp_path: Path) -> None:
    write(FOUR, tmp_path / "matrix.json")
    raw = json.loads((tmp_path / "matrix.json").read_text())
    assert raw["schema"] == 1
    assert " ".join(raw["cells"][0]) == (
        "case host release paging route accel predicted probed observed verdict reason evidence"
    )
    assert raw["cells"][0]["verdict"] == "PASS"
    assert read(tmp_path / "matrix.json") == FOUR


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no JSON"),
        ("\xff", "is no JSON"),
        ("[]", "is no matrix.json"),
        ('{"schema": 1}', "is no matrix.json"),
        ('{"schema": 1, "cells": {}}', "is no matrix.json"),
        ('{"schema": 2, "cells": []}', "has schema 2"),
        ('{"schema": true, "cells": []}', "has schema True"),
        ('{"schema": 1, "cells": [7]}', "cell 1 should have just these keys"),
        ('{"schema": 1, "cells": [{"case": "x"}]}', "cell 1 should have just these keys"),
        (json.dumps({"schema": 1, "cells": [dataclasses.asdict(cell()) | {"probed": None}]}), "no string"),
        (json.dumps({"schema": 1, "cells": [dataclasses.asdict(cell()) | {"verdict": "GOOD"}]}), "verdict 'GOOD'"),
        (json.dumps({"schema": 1, "cells": [dataclasses.asdict(cell()) | {"more": ""}]}), "just these keys"),
    ],
)
def test_a_bad_file_is_a_usage_error(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "matrix.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=complaint):
        read(path)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "matrix.json")


def test_the_grid_shows_what_was_not_tested() -> None:
    table = grid(FOUR[:3])
    assert table.columns == (("5.10", "npt"), ("5.10", "shadow"), ("7.3", "npt"), ("7.3", "shadow"))
    assert table.untested == 1
    assert grid(FOUR, planned=[("5.10", "npt"), ("6.12", "npt")]).hosts == ("5.10", "6.12", "7.3")
    assert "untested" in markdown(FOUR[:3])
    assert "untested" in seen_in_terminal(FOUR[:3])
    assert 'data-o="untested"' in html(FOUR[:3])
    assert 'data-o="untested"' not in html(FOUR)


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
    error = cell("6.1", verdict=Verdict.ERROR, observed="", reason="the guest did not answer SSH")
    assert summary((error,)).startswith("No host was tested. Not all could be tested, the lab failed: 6.1 (1 ERROR).")
    mixed = summary((*FOUR[:2], error, cell("6.1", "shadow", verdict=Verdict.ERROR)))
    assert mixed.startswith("The one host tested (5.10) does what it promises, as far as tested. ")
    for text in (markdown((error,)), seen_in_terminal((error,))):
        assert "ERROR" in text
        assert "FAIL" not in text
        assert "PASS" not in text


def test_the_weightiest_come_first() -> None:
    cells = [cell(verdict=verdict) for verdict in (Verdict.SKIP, Verdict.PASS, Verdict.ERROR, Verdict.FAIL)]
    assert [one.verdict for one in remarkable(cells)] == [Verdict.FAIL, Verdict.ERROR, Verdict.SKIP]


def test_markdown_shows_what_stands_in_the_cells() -> None:
    odd = cell("7.3", verdict=Verdict.FAIL, observed="a|b", reason="line one\nline two", case="*odd*")
    lines = markdown((*FOUR, odd), header={"QEMU": "7.2.22"}).splitlines()
    rows = [line.replace("\\|", "").count("|") for line in lines if line.startswith("|")]
    assert set(rows[-6:]) == {6}  # head, rule, and for each of two groups its title and one promise
    assert r"- **FAIL** \*odd\*, 7.3 npt: line one" in lines
    assert "- QEMU: 7.2.22" in lines


def test_all_files_are_written(tmp_path: Path) -> None:
    write_all(FOUR, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "matrix-header.json", "matrix.html", "matrix.json", "matrix.md",
    ]  # fmt: skip
    write_all((), tmp_path)
    assert "No host was tested." in (tmp_path / "matrix.html").read_text()
