"""The groups of promises, what stands in them, and the one outcome that each cell shows."""

from dataclasses import replace
from pathlib import Path

import bigmatrix
import pytest
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report import promise_titles
from cpuidlab.report.matrix import grid
from cpuidlab.report.outcome import OUTCOMES, STYLES, answer_of, errno_of, outcome_of
from cpuidlab.report.terminal import PROMISE_WIDTH
from fakeavocado import CELL

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


@pytest.mark.parametrize(
    ("observed", "key", "answer", "errno"),
    [
        ("silent", "silent", "silent", ""),
        ("warned", "warned", "warned", ""),
        ("warned, load verified", "warned", "warned", ""),
        ("refused EINVAL", "refused", "refused", "EINVAL"),
        ("refused EFAULT", "refused", "refused", "EFAULT"),
        ("1 of 2 accepted, refused EINVAL", "partly", "partly", "EINVAL"),
        ("1 of 2 accepted, refused EINVAL, warned", "partly", "partly", "EINVAL"),
        ("silent, guest died", "died", "silent", ""),
        ("refused EINVAL, guest died", "ended", "refused", "EINVAL"),
        ("1 of 2 accepted, refused EINVAL, guest died", "died", "partly", "EINVAL"),
        ("warned, harmless, then killed, guest unstable", "harmed", "warned", ""),
        ("warned, missed fault, then fault", "missed", "warned", ""),
        ("silent, no fault, then no fault", "silent", "silent", ""),
        ("all refused but what KVM keeps itself, stable", "refused", None, ""),
        ("all taken but what KVM checks, stable", "silent", None, ""),
        ("warned, all taken but what KVM checks", "warned", "warned", ""),
        ("stable", "stable", None, ""),
        ("nothing changed", "stable", None, ""),
        ("", "other", None, ""),
        ("something new", "other", None, ""),
    ],
)
def test_the_outcome_of_what_was_seen(observed: str, key: str, answer: str | None, errno: str) -> None:
    cell = replace(CELL, observed=observed)
    assert (outcome_of(cell).key, answer_of(cell), errno_of(cell)) == (key, answer, errno)


def test_what_says_nothing_of_the_kernel_looks_like_nothing_else() -> None:
    for verdict, key in ((Verdict.ERROR, "error"), (Verdict.SKIP, "skipped"), (Verdict.KNOWN, "known")):
        assert outcome_of(replace(CELL, observed="silent", verdict=verdict)).key == key
    assert outcome_of(replace(CELL, observed="silent, guest died", verdict=Verdict.FAIL)).key == "died"
    assert outcome_of(None).key == "untested"
    css = (Path(promise_titles.__file__).parent / "templates/matrix.css.j2").read_text()
    for key in OUTCOMES:
        assert (f".o-{key} {{ background-image" in css) == (key in ("error", "untested"))


def test_nobody_needs_the_colours() -> None:
    assert set(STYLES) == set(Verdict)
    assert len({style.mark for style in STYLES.values()}) == len(STYLES)
    for looks in (
        [one.letter for one in OUTCOMES.values()], [one.word for one in OUTCOMES.values()],
        [one.light for one in OUTCOMES.values()],
    ):  # fmt: skip
        assert len(set(looks)) == len(OUTCOMES)


@pytest.mark.parametrize("key", OUTCOMES)
def test_the_ink_can_be_read_on_the_paper(key: str) -> None:
    def light(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for ink, paper in (OUTCOMES[key].light, OUTCOMES[key].dark):
        darker, lighter = sorted((light(ink), light(paper)))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG 2.1, level AA
