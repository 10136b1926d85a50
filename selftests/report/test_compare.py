"""What changed between two matrices: which group each change is in, the exit code, and bad files."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import bigmatrix
import pytest
from cells import DIED, REFUSED, SILENT, WARNED
from cpuidlab.commands import cli
from cpuidlab.experiment.facts import Facts
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report import matrix_file
from cpuidlab.report.cell import Cell
from cpuidlab.report.compare import ORDER, Changes, compare
from cpuidlab.report.compare_text import comparison_of, text
from cpuidlab.report.report import report_of
from cpuidlab.report.write import write_all

BIG = tuple(cell for cell, _ in bigmatrix.big())
GROUPS = (
    "moved", "worse", "better", "outcome", "lost", "regained", "new_hosts", "lost_hosts", "new_promises",
    "gone_promises",
)  # fmt: skip
ONE = ("6.1", "npt", "after_run/identical")
SCHEMA_1 = Path(bigmatrix.__file__).with_name("matrix-schema1.json")  # written by the version before schema 2

Edit = Callable[[Cell], Cell | None]


def edited(place: tuple[str, ...], edit: Edit) -> list[Cell]:
    """The big matrix with the cells of a host, a paging mode and a case edited, or left out where that gives None."""
    made = (
        edit(cell) if (cell.host, cell.paging, cell.case)[: len(place)] == place else cell
        for cell in BIG
    )  # fmt: skip
    return [cell for cell in made if cell is not None]


def to(verdict: str, facts: Facts | None = REFUSED) -> Edit:
    return lambda cell: replace(cell, verdict=Verdict(verdict), facts=facts, reason="why")


def gone(_: Cell) -> None:
    return None


def counts(changes: Changes) -> dict[str, int]:
    """How many changes are in each group that has any."""
    return {name: len(getattr(changes, name)) for name in GROUPS if getattr(changes, name)}


def test_nothing_changed_and_the_order_of_cells_is_no_change() -> None:
    changes = compare(BIG, BIG[::-1])
    assert counts(changes) == {}
    assert changes.marked == frozenset()
    assert text(comparison_of(changes)).startswith("Nothing got worse. Compared: ")


def test_verdicts_have_an_order_and_each_step_has_a_reason() -> None:
    assert list(ORDER) == [Verdict.PASS, Verdict.WARN, Verdict.KNOWN, Verdict.FAIL]
    assert all(ORDER.values())


@pytest.mark.parametrize(
    ("before", "after", "group"),
    [
        ("PASS", "WARN", "worse"), ("PASS", "KNOWN", "worse"), ("PASS", "FAIL", "worse"), ("WARN", "KNOWN", "worse"),
        ("WARN", "FAIL", "worse"), ("KNOWN", "FAIL", "worse"), ("FAIL", "PASS", "better"), ("KNOWN", "PASS", "better"),
        ("KNOWN", "WARN", "better"), ("WARN", "PASS", "better"), ("FAIL", "KNOWN", "better"),
        ("PASS", "ERROR", "lost"), ("FAIL", "ERROR", "lost"), ("PASS", "SKIP", "lost"), ("KNOWN", "SKIP", "lost"),
        ("ERROR", "PASS", "regained"), ("SKIP", "WARN", "regained"), ("ERROR", "KNOWN", "regained"),
        ("ERROR", "FAIL", "worse"), ("SKIP", "FAIL", "worse"), ("ERROR", "SKIP", None), ("ERROR", "ERROR", None),
        ("PASS", "PASS", None), ("FAIL", "FAIL", None),
    ],
)  # fmt: skip
def test_each_change_is_in_its_group(before: str, after: str, group: str | None) -> None:
    changes = compare(edited(ONE, to(before)), edited(ONE, to(after)))
    assert counts(changes) == ({group: 1} if group else {})
    assert changes.marked == ({(ONE[2], *ONE[:2])} if group else frozenset())


def test_a_cell_that_is_no_longer_there_is_lost_and_one_that_comes_back_is_no_promise_kept_or_broken() -> None:
    assert counts(compare(BIG, edited(ONE, gone))) == {"lost": 1}
    assert counts(compare(edited(ONE, gone), BIG)) == {"regained": 1}
    assert counts(compare(edited(ONE, gone), edited(ONE, to("FAIL")))) == {"worse": 1}


def test_another_outcome_is_not_worse() -> None:
    changes = compare(BIG, edited(ONE, to("PASS", WARNED)))
    assert counts(changes) == {"outcome": 1}
    assert "after_run/identical (hook): PASS silent -> PASS warned, on 6.1 npt (same kernel)" in text(
        comparison_of(changes)
    )


@pytest.mark.parametrize(("before", "after"), [(SILENT, DIED), (DIED, SILENT)])
def test_another_end_of_a_guest_that_nobody_promises_is_told_and_is_not_worse(
    before: Facts, after: Facts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ("5.10", "npt", "after_run/maxphyaddr_32_below_ram")
    for name, facts in (("old", before), ("new", after)):
        matrix_file.write(edited(one, to("PASS", facts)), tmp_path / name)
    assert cli.main(["compare", str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Nothing got worse. 1 cell changed in outcome alone.")
    words = {SILENT: "PASS silent", DIED: "PASS silent, guest died"}
    assert f"32_below_ram (hook): {words[before]} -> {words[after]}, on 5.10 npt (same kernel)" in said


def test_a_kernel_that_moved_is_named_with_both_builds() -> None:
    moved = edited(("6.1",), lambda cell: replace(cell, release="6.1.0-57-cloud-amd64", probed="warn"))
    changes = compare(BIG, moved)
    assert counts(changes) == {"moved": 1}
    said = text(comparison_of(changes))
    assert "6.1: 6.1.0-56-cloud-amd64 -> 6.1.0-57-cloud-amd64; a probe showed forbid-changed, now warn" in said
    assert "Moved: 6.1." in said
    lost = edited(("6.1",), lambda cell: replace(cell, release="", probed=""))
    assert counts(compare(BIG, lost)) == {}  # what nobody learned is no move


def test_in_a_kernel_that_did_not_move_that_is_said() -> None:
    worse = edited(ONE, to("FAIL"))
    assert "on 6.1 npt (same kernel): why" in text(comparison_of(compare(BIG, worse)))
    moved = [replace(cell, release="6.1.99") if cell.host == "6.1" else cell for cell in worse]
    assert "on 6.1 npt: why" in text(comparison_of(compare(BIG, moved)))


def test_hosts_and_paging_modes_come_and_go() -> None:
    assert counts(compare(BIG, edited(("7.2",), gone))) == {"lost_hosts": 2}
    assert counts(compare(BIG, edited(("7.2", "shadow"), gone))) == {"lost_hosts": 1}
    changes = compare(edited(("7.3", "npt"), gone), BIG)
    assert counts(changes) == {"new_hosts": 1}
    assert re.search(r"  7\.3 npt: \d+ PASS, 1 FAIL, 1 SKIP", text(comparison_of(changes)))
    assert "No longer known: all of 7.2 npt+shadow." in text(comparison_of(compare(BIG, edited(("7.2",), gone))))


def test_promises_come_and_go_and_what_fails_in_a_new_one_is_said_but_is_not_worse() -> None:
    more = [*BIG, *(replace(cell, case="who/new", verdict=Verdict.FAIL) for cell in BIG if cell.case == ONE[2])]
    changes = compare(BIG, more)
    assert counts(changes) == {"new_promises": 1}
    assert "who/new (hook): 20 FAIL" in text(comparison_of(changes))
    assert counts(compare(more, BIG)) == {"gone_promises": 1}


def test_a_test_that_was_lost_before_it_told_its_route_stands_in_its_row() -> None:
    lost = edited(ONE, lambda cell: replace(cell, route="", verdict=Verdict.ERROR, facts=None))
    assert counts(compare(BIG, lost)) == {"lost": 1}
    every = [replace(cell, route="") if cell.case == ONE[2] else cell for cell in BIG]
    assert counts(compare(BIG, every)) == counts(compare(every, BIG)) == {}


def test_the_same_change_in_many_places_is_one_line() -> None:
    changes = compare(BIG, edited(("6.12",), to("FAIL", DIED)))
    said = text(comparison_of(changes))
    assert len(changes.worse) > 100
    assert said.startswith(f"{len(changes.worse)} cells got worse, on 6.12.")
    assert (
        "after_run/identical (hook): PASS silent -> FAIL silent, guest died, on 6.12 npt+shadow (same kernel): why"
        in said
    )


def test_where_nothing_can_be_compared_that_is_said() -> None:
    assert text(comparison_of(compare((), BIG))).startswith("Nothing could be compared: ")


def test_facts_that_vary_from_run_to_run_are_no_other_outcome() -> None:
    for one, other in (
        (WARNED, replace(WARNED, lines=(9, 10))),
        (DIED, replace(DIED, ended="hangs: vCPU 0 does not get past RIP ffffffffa0c73914")),
    ):
        assert counts(compare(edited(ONE, to("PASS", one)), edited(ONE, to("PASS", other)))) == {}


def test_a_matrix_that_did_not_change_is_equal_to_itself_in_the_schema_before() -> None:
    old = matrix_file.read(SCHEMA_1)
    places = {(cell.case, cell.host, cell.paging) for cell in old}
    new = [cell for cell in BIG if (cell.case, cell.host, cell.paging) in places]
    assert len(new) == len(old) > 20
    for changes in (compare(old, new), compare(new, old)):
        assert counts(changes) == {}
        assert changes.compared == sum(cell.verdict not in (Verdict.SKIP, Verdict.ERROR) for cell in new)
    assert counts(compare(old, [replace(cell, facts=DIED) for cell in new])) != {}


# the command


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "new").mkdir()
    matrix_file.write(BIG, tmp_path / "old.json")
    matrix_file.write(BIG, tmp_path / "new/matrix.json")
    return tmp_path / "old.json", tmp_path / "new/matrix.json"


def ran(*words: Path | str) -> int:
    return cli.main(["compare", *map(str, words)])


def test_the_command_reads_both_schemas(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(SCHEMA_1, files[1]) == 0
    assert ran(files[1], SCHEMA_1, "--html", files[1].parent / "page.html") == 0
    assert "got worse" not in capsys.readouterr().out.replace("Nothing got worse", "")


def test_a_jobs_folder_stands_for_its_matrix(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    matrix_file.write(edited(ONE, to("FAIL")), files[1])
    page = files[0].with_name("page.html")
    assert ran(files[0], files[1].parent, "--html", page) == 1
    assert "FAIL" in capsys.readouterr().out and page.exists()
    assert ran(files[1].parent, files[0].parent) == 2
    assert "cannot read" in capsys.readouterr().err


def test_exit_codes(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    old, new = files
    assert ran(old, new) == 0
    matrix_file.write(edited(ONE, to("FAIL")), new)
    assert ran(old, new) == 1
    assert ran(new, old) == 0
    matrix_file.write(edited(ONE, to("ERROR", None)), new)
    assert ran(old, new) == 0
    matrix_file.write(edited(("6.1",), gone), new)
    assert ran(old, new) == 0
    assert capsys.readouterr().err == ""


GOOD = json.loads(SCHEMA_1.read_text())["cells"][0]
BAD = {
    "empty": b"", "half": b'{"schema": 2, "cells": [', "binary": bytes(range(256)), "deep": b"[" * 100_000,
    "a bomb of digits": b'{"schema": ' + b"9" * 5000 + b', "cells": []}', "null": b"null", "list": b"[]",
    "no cells": b'{"schema": 2}', "cells that are none": b'{"schema": 2, "cells": 7}', "bom": b"\xef\xbb\xbf{}",
    "another schema": b'{"schema": 3, "cells": []}', "schema of text": b'{"schema": "2", "cells": []}',
    "not a number": b'{"schema": NaN, "cells": []}', "more": b'{"schema": 2, "cells": [], "more": 1}',
    "a cell that is none": b'{"schema": 2, "cells": [[]]}', "a cell without keys": b'{"schema": 2, "cells": [{}]}',
    "a cell of the other schema": json.dumps({"schema": 2, "cells": [GOOD]}).encode(),
    "a cell of numbers": json.dumps({"schema": 1, "cells": [GOOD | {"host": 6.1}]}).encode(),
    "a verdict that is none": json.dumps({"schema": 1, "cells": [GOOD | {"verdict": "pass"}]}).encode(),
    "half a character": json.dumps({"schema": 1, "cells": [GOOD | {"host": "\ud800"}]}).encode(),
    "words that are none": json.dumps({"schema": 1, "cells": [GOOD | {"observed": "silent, " * 9999}]}).encode(),
    "facts that are none": json.dumps({"schema": 2, "cells": [GOOD | {"facts": {"answers": [[]] * 9999}}]}).encode(),
    "utf-16": json.dumps({"schema": 1, "cells": [GOOD]}).encode("utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_and_exit_2(
    name: str, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = files
    new.write_bytes(BAD[name])
    for words in ((old, new), (new, old)):
        assert ran(*words) == 2
        said = capsys.readouterr()
        assert said.err.startswith("cpuidlab: ")
        assert str(new) in said.err
        assert said.err.count("\n") == 1
        assert len(said.err) < 500
        assert said.out == ""


def test_files_that_cannot_be_read_or_written_are_one_line_and_exit_2(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = files
    for words in (
        (old, new.parent.parent), (old, new.parent / "gone.json"), (old, old / "below"),
        (old, new, "--html", new.parent), (old, new, "--html", new.parent / "gone/page.html"),
    ):  # fmt: skip
        assert ran(*words) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert said.err.startswith("cpuidlab: cannot ")


def test_control_characters_do_not_reach_a_terminal(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = files
    matrix_file.write([*BIG, replace(BIG[0], host="\x1b[31mred\nline\x07")], new)
    assert ran(old, new) == 0
    said = capsys.readouterr().out
    assert "red line" in said
    assert all(sign.isprintable() or sign == "\n" for sign in said)


def test_the_page_of_a_comparison_leads_to_the_evidence_from_wherever_it_lies(files: tuple[Path, Path]) -> None:
    old, new = files
    cells = bigmatrix.save(new.parent)
    worse = [replace(cell, verdict=Verdict.FAIL) if cell.case == ONE[2] else cell for cell in cells]
    write_all(report_of(worse, header=bigmatrix.HEADER, planned=[("9.9", "npt")]), new.parent)
    page = new.parent.parent / "page.html"
    assert ran(old, new, "--html", page) == 1
    text = page.read_text()
    for words in ("20 cells got worse", "1012 s", 'data-host="9.9"', "What changed since last time", "hangs: vCPU 0"):
        assert words in text
    assert f'href="new/{cells[0].evidence}"'.replace("+", "%2B") in text
    (new.parent / "matrix-header.json").unlink()
    assert ran(old, new, "--html", page) == 1
    for garbled in ("{", "[]", '{"header": 1, "planned": []}', '{"header": {}, "planned": [1]}'):
        (new.parent / "matrix-header.json").write_text(garbled)
        assert ran(old, new, "--html", page) == 2
