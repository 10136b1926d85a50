"""Every note reworded on purpose: nothing but words changes, in the page and in each other output."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bigmatrix
import pytest
from cells import facts
from cpuidlab.experiment import words
from cpuidlab.experiment.note import Note
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report import compare_text, matrix_file
from cpuidlab.report.cell import Cell
from cpuidlab.report.compare import compare
from cpuidlab.report.markdown import markdown
from cpuidlab.report.outcome import outcome_of
from cpuidlab.report.page import html

OLD = dict(words.NOTE_WORDS)
NEW = {note: f"quite other words ({number})" for number, note in enumerate(Note)}
BIG = tuple(cell for cell, _ in bigmatrix.big())
BIG_REPORT, BIG_OUTCOMES = bigmatrix.report_of_all(BIG), [outcome_of(cell) for cell in BIG]
SCHEMA_1 = Path(bigmatrix.__file__).with_name("matrix-schema1.json")


@contextmanager
def other_words() -> Iterator[None]:
    """Other words for every note, as long as this lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for note, new in NEW.items():
            patch.setitem(words.NOTE_WORDS, note, new)  # type: ignore[arg-type]
        yield


@pytest.fixture(scope="module")
def reworded() -> tuple[Cell, ...]:
    """The big matrix, all of it made anew with other words for every note."""
    with other_words():
        return tuple(cell for cell, _ in bigmatrix.big())


@pytest.fixture
def patched() -> Iterator[None]:
    """A whole test with other words."""
    with other_words():
        yield


def with_old_words(text: str) -> str:
    for note, new in NEW.items():
        text = text.replace(new, OLD[note])
    return text


@pytest.mark.usefixtures("patched")
def test_facts_verdicts_and_outcomes_stay(reworded: tuple[Cell, ...]) -> None:
    assert words.in_words(facts("accepted", notes=(Note.KILLED,))) == f"silent, {NEW[Note.KILLED]}"
    assert [(cell.facts, cell.verdict) for cell in reworded] == [(cell.facts, cell.verdict) for cell in BIG]
    assert [outcome_of(cell) for cell in reworded] == BIG_OUTCOMES


@pytest.mark.usefixtures("patched")
def test_what_follows_from_the_cells_stays(reworded: tuple[Cell, ...]) -> None:
    new = bigmatrix.report_of_all(reworded)
    for name in ("advice", "leads", "standings", "summary", "legend"):
        assert getattr(new, name) == getattr(BIG_REPORT, name)


@pytest.mark.parametrize("schema", [1, 2])
def test_a_comparison_with_a_file_of_the_old_words_finds_nothing(
    tmp_path: Path, schema: int, reworded: tuple[Cell, ...]
) -> None:
    matrix_file.write(BIG, tmp_path / "matrix.json")
    with other_words():
        old = matrix_file.read(SCHEMA_1 if schema == 1 else tmp_path / "matrix.json")
        places = {(cell.case, cell.host, cell.paging) for cell in old}
        changes = compare(old, [cell for cell in reworded if (cell.case, cell.host, cell.paging) in places])
        assert compare_text.text(compare_text.comparison_of(changes)).startswith("Nothing got worse. Compared: ")
    assert changes.marked == frozenset()


def test_page_markdown_and_json_differ_in_these_words_alone(tmp_path: Path, reworded: tuple[Cell, ...]) -> None:
    with other_words():
        new = bigmatrix.report_of_all(reworded)
        texts = [html(new), markdown(new)]
        matrix_file.write(reworded, tmp_path / "new.json")
    matrix_file.write(BIG, tmp_path / "old.json")
    assert [with_old_words(text) for text in texts] == [html(BIG_REPORT), markdown(BIG_REPORT)]
    raw_new, raw_old = ((tmp_path / name).read_text() for name in ("new.json", "old.json"))
    assert raw_new != raw_old
    assert json.loads(with_old_words(raw_new)) == json.loads(raw_old)


@pytest.mark.usefixtures("patched")
def test_advice_goes_by_the_note_itself(reworded: tuple[Cell, ...]) -> None:
    """The big matrix has the false refusal, whose advice hangs on one note."""
    told = {one.host: one for one in bigmatrix.report_of_all(reworded).advice}
    assert "after a reset, and the CPUID that KVM then reports is wrong" in told["6.16"].same
    assert any(cell.verdict is Verdict.KNOWN for cell in reworded)
