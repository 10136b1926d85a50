"""Merged jobs: which cells are alike, what a conflict says, and what stands above the merged matrix."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from cells import CELL, DIED, REFUSED, SILENT, WARNED
from cpuidlab.experiment.facts import Facts
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell, Place
from cpuidlab.report.merge import Job, Merged, merge
from cpuidlab.report.report import report_of
from cpuidlab.report.write import UNFINISHED


def job(name: str, *cells: Cell, header: Mapping[str, str] | None = None, planned: tuple[Place, ...] = ()) -> Job:
    return Job(name, cells, header or {}, planned)


def cell(verdict: Verdict = Verdict.PASS, facts: Facts | None = SILENT, **values: str) -> Cell:
    return replace(CELL, verdict=verdict, facts=facts, **values)


def two(first: Cell, second: Cell) -> Merged:
    return merge([job("A", first), job("B", second)])


@pytest.mark.parametrize("other", [{"case": "who/y"}, {"route": "replug"}, {"host": "6.1"}, {"paging": "shadow"}])
def test_cells_of_different_places_are_all_kept(other: dict[str, str]) -> None:
    second = replace(CELL, **other)
    merged = two(CELL, second)
    assert merged.cells == (CELL, second)
    assert (merged.alike, merged.conflicts) == (0, ())


def test_one_job_stays_as_it_is() -> None:
    merged = merge([job("A", CELL, cell(host="6.1"), planned=(("5.10", "npt"),))])
    assert merged.cells == (CELL, cell(host="6.1"))
    assert merged.planned == (("5.10", "npt"),)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (CELL, cell(reason="in other words", evidence="elsewhere")),
        (cell(facts=WARNED), cell(facts=replace(WARNED, lines=(9, 10)))),
        (cell(facts=WARNED), cell(facts=replace(WARNED, lines=None, model=None))),  # as schema 1 tells it
        (cell(Verdict.SKIP, None, reason="no la57"), cell(Verdict.SKIP, None, reason="no SEV")),
        (cell(Verdict.ERROR, None), cell(Verdict.ERROR, None, route="")),
    ],
)
def test_of_results_that_are_alike_the_first_is_kept(first: Cell, second: Cell) -> None:
    merged = two(first, second)
    assert merged.cells == (first,)
    assert (merged.alike, merged.conflicts) == (1, ())


@pytest.mark.parametrize(
    ("first", "second", "claims"),
    [
        (CELL, cell(facts=REFUSED), "A says PASS silent; B says PASS refused EINVAL"),
        (CELL, cell(Verdict.FAIL), "A says PASS silent; B says FAIL silent"),
        (CELL, cell(Verdict.FAIL, DIED), "A says PASS silent; B says FAIL silent, guest died"),
        (cell(Verdict.FAIL), cell(Verdict.FAIL, DIED), "A says FAIL silent; B says FAIL silent, guest died"),
        (CELL, cell(Verdict.ERROR, None), "A says PASS silent; B says ERROR"),
        (CELL, cell(Verdict.ERROR, None, route=""), "A says PASS silent; B says ERROR"),
        (cell(Verdict.SKIP, None), cell(Verdict.KNOWN), "A says SKIP; B says KNOWN silent"),
    ],
)
def test_results_that_differ_are_an_error_that_tells_both(first: Cell, second: Cell, claims: str) -> None:
    merged = two(first, second)
    (shown,) = merged.cells
    assert (shown.verdict, shown.facts) == (Verdict.ERROR, None)
    assert (shown.case, shown.route, shown.host, shown.paging) == (CELL.case, CELL.route, CELL.host, CELL.paging)
    assert shown.reason.splitlines()[0] == f"2 jobs disagree: {claims}"
    assert merged.in_conflict == (first, replace(second, route=first.route))
    assert merged.alike == 0


def test_an_end_of_the_guest_that_nobody_promises_is_no_conflict_and_is_told() -> None:
    merged = merge([job("A", CELL), job("B", cell(facts=DIED)), job("C", cell(reason="in other words"))])
    (kept,) = merged.cells
    assert (merged.alike, merged.conflicts) == (1, ())
    assert kept == cell(reason="ok\nB saw another end of the guest, which nobody promises: silent, guest died")


def test_the_order_of_the_jobs_decides_nothing_in_a_conflict() -> None:
    for cells in ((CELL, cell(Verdict.FAIL, evidence="b")), (cell(Verdict.FAIL, evidence="b"), CELL)):
        (shown,) = two(*cells).cells
        assert (shown.verdict, shown.evidence) == (Verdict.ERROR, "b")  # the evidence of the weightiest


def test_jobs_with_the_same_result_are_named_together_and_each_names_its_evidence() -> None:
    fail = cell(Verdict.FAIL, REFUSED, release="5.10.0-47", reason="was refused\nmore", evidence="b/data")
    (shown,) = merge([job("A", CELL), job("B", fail), job("C", CELL)]).cells
    assert shown.reason.splitlines() == [
        "3 jobs disagree: A, C say PASS silent; B says FAIL refused EINVAL",
        "A: PASS, 5.10.0-46, tcg, ok",
        "B: FAIL, 5.10.0-47, tcg, was refused, b/data",
        "C: PASS, 5.10.0-46, tcg, ok",
    ]


def test_a_kernel_that_differs_between_jobs_is_named() -> None:
    assert two(CELL, CELL).mixed == {}
    assert two(CELL, cell(release="")).mixed == {}  # what nobody learned is no difference
    merged = merge([job("A", CELL), job("B", cell(release="5.10.0-47")), job("C", CELL)])
    assert merged.mixed == {"5.10": {"5.10.0-46": ("A", "C"), "5.10.0-47": ("B",)}}


def test_the_heads_are_joined_and_what_was_not_run_is_told_for_each_job() -> None:
    heads = ({"accelerator": "tcg", "guest": "6.1", UNFINISHED: "2 tests"}, {"accelerator": "kvm", "guest": "6.1"})
    first, second = (job(name, CELL, header=head) for name, head in zip("AB", heads, strict=True))
    third = job("C", CELL, header={UNFINISHED: "2 tests"})
    assert merge([first, second, third]).header == {
        "jobs": "A, B, C", "accelerator": "tcg; kvm", "guest": "6.1", UNFINISHED: "A: 2 tests; C: 2 tests",
    }  # fmt: skip


def test_the_head_names_the_first_conflicts() -> None:
    cells = [cell(case=f"who/{number}") for number in range(7)]
    merged = merge([job("A", *cells), job("B", *(replace(each, facts=REFUSED) for each in cells))])
    assert len(merged.conflicts) == 7
    assert merged.header["conflicts"].startswith("7, each an ERROR below: who/0 (hook) on 5.10 npt, who/1")
    assert merged.header["conflicts"].endswith("who/4 (hook) on 5.10 npt, and 2 more")


def test_what_a_job_planned_and_did_not_test_stays_untested() -> None:
    merged = merge([job("A", CELL, planned=(("5.10", "npt"), ("5.10", "shadow"))), job("B", cell(host="6.1"))])
    report = report_of(merged.cells, header=merged.header, planned=merged.planned)
    assert report.grid.hosts == ("5.10", "6.1")
    assert report.grid.untested == 2
