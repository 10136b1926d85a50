"""The groups of promises, and what stands in them."""

from dataclasses import replace

import bigmatrix
import pytest
from cells import CELL
from cpuidlab.report import promise_titles
from cpuidlab.report.matrix import grid
from cpuidlab.report.terminal import PROMISE_WIDTH

CASES = {case for case, _, _ in bigmatrix.cases()}
FILES = sorted({case.partition("/")[0] for case in CASES})


@pytest.mark.parametrize("stem", FILES)
def test_every_file_of_promises_has_a_group(stem: str) -> None:
    assert stem in promise_titles.groups(), f"give {stem} a table in tooling/promises.toml"
    assert len(promise_titles.groups()[stem].title) <= PROMISE_WIDTH


def test_the_table_names_no_test_that_is_not_there() -> None:
    named = {
        f"{group.stem}/{test}" for group in promise_titles.groups().values() for test in group.questions if test != "*"
    }
    assert named - CASES == set()


@pytest.mark.parametrize("case", sorted(CASES))
def test_every_promise_is_found_in_its_words(case: str) -> None:
    assert len(promise_titles.words_of(case)) > 20


def test_what_the_table_lacks_is_shown_last_under_its_own_name() -> None:
    group = promise_titles.group_of("brand_new/thing")
    assert (group.title, promise_titles.question_of("brand_new/thing")) == ("brand new", None)
    assert group.rank > max(one.rank for one in promise_titles.groups().values())
    assert promise_titles.words_of("brand_new/thing") == promise_titles.words_of("../../etc/passwd") == ""
    rows = [replace(CELL, case=case) for case in ("z_new/a", "a_new/a", "z_new/b", "after_run/x")]
    assert [case for case, _ in grid(rows).rows] == ["after_run/x", "a_new/a", "z_new/a", "z_new/b"]


def test_the_questions() -> None:
    for case, question in {
        "identical/twice": "same", "identical/flags": "changed", "false_refusal/after_system_reset": "pending",
        "before_run/any_model_any_times": "before", "failed_calls/bad_pointer": None,
    }.items():  # fmt: skip
        assert promise_titles.question_of(case) == question
