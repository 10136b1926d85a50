"""The words of a matrix.json of schema 1, and the facts that they tell; what they do not tell stays unknown."""

from dataclasses import replace
from pathlib import Path

import bigmatrix
import pytest
from cpuidlab.experiment.facts import Answer, Facts, GuestState
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.words import in_words
from cpuidlab.report import matrix_file
from cpuidlab.report.cell import seen_in_words
from cpuidlab.report.schema1 import facts_of_words

FILE = Path(bigmatrix.__file__).with_name("matrix-schema1.json")
ACCEPTED, EINVAL = Answer(None, "accepted"), Answer(None, "EINVAL")
SILENT, REFUSED = Facts((ACCEPTED,)), Facts((EINVAL,))
WARNED = replace(SILENT, lines=None)
DIED, UNSTABLE, STABLE = GuestState.DIED, GuestState.UNSTABLE, GuestState.STABLE

TOLD = {
    "": None,
    "nothing changed": Facts(),
    "stable": Facts(guest=STABLE),
    "guest unstable": Facts(guest=UNSTABLE),
    "silent": SILENT,
    "warned": WARNED,
    "refused EINVAL": REFUSED,
    "refused EINVAL, warned": replace(REFUSED, lines=None),
    "refused EINVAL/EPERM": Facts((EINVAL, Answer(None, "EPERM"))),
    "refused errno 524": Facts((Answer(None, "errno 524"),)),
    "1 of 2 accepted, refused EINVAL": Facts((ACCEPTED, EINVAL)),
    "2 of 4 accepted, refused EINVAL, warned": Facts((ACCEPTED, ACCEPTED, EINVAL, EINVAL), lines=None),
    "1 of 3 accepted, refused E2BIG/EINVAL": Facts((ACCEPTED, Answer(None, "E2BIG"), EINVAL)),
    "refused EINVAL, wrong model": replace(REFUSED, model="other"),
    "wrong model, stable": Facts(model="other", guest=STABLE),
    "silent, guest died": replace(SILENT, guest=DIED),
    "warned, load verified, guest died": replace(WARNED, notes=(Note.LOAD_VERIFIED,), guest=DIED),
    "silent, missed fault, then fault": replace(SILENT, notes=(Note.MISSED_FAULT, Note.FAULT)),
    "silent, fault, then fault of the old mapping alone": replace(
        SILENT, notes=(Note.FAULT, Note.FAULT_OF_OLD_MAPPING)
    ),
    "warned, harmless, then killed, guest unstable": replace(
        WARNED, notes=(Note.HARMLESS, Note.KILLED), guest=UNSTABLE
    ),
    "refused EINVAL, OSXSAVE stale": replace(REFUSED, notes=(Note.OSXSAVE_STALE,)),
    "all refused but what KVM keeps itself, stable": Facts(notes=(Note.ALL_REFUSED,), guest=STABLE),
    "warned, all taken but what KVM checks": Facts(lines=None, notes=(Note.ALL_TAKEN,)),
}


@pytest.mark.parametrize("words", TOLD)
def test_what_words_tell(words: str) -> None:
    assert facts_of_words(words) == TOLD[words]


@pytest.mark.parametrize("words", [words for words in TOLD if words])
def test_the_facts_have_the_same_words_again(words: str) -> None:
    told = TOLD[words]
    assert told is not None
    assert in_words(told) == words


@pytest.mark.parametrize("end", ["", ", stable"])
def test_a_sweep_that_took_some_bits_lists_them(end: str) -> None:
    words = f"taken: 0x1 ECX[7:5], osxsave; 0x7 but EBX; removals taken: every leaf but 0xd.1, 0xd.2{end}"
    assert facts_of_words(words) == Facts(notes=(Note.PARTLY_TAKEN,), guest=STABLE if end else GuestState.UNSEEN)


@pytest.mark.parametrize(
    "words",
    [
        "accepted", "silent,guest died", "silent, silent", "guest died, silent", "Silent", " ", "silent, ", ", silent",
        "1 of 2 accepted", "1 of 1 accepted, refused EINVAL", "0 of 2 accepted, refused EINVAL", "refused", "refused ",
        "refused EINVAL/", "2 of 3 accepted, refused E2BIG/EINVAL", "silent, something new", "silent\n",
        "99999 of 100000 accepted, refused EINVAL", "</script><script>alert(1)</script>",
    ],
)  # fmt: skip
def test_other_words_are_an_error(words: str) -> None:
    with pytest.raises(ValueError, match="'observed' "):
        facts_of_words(words)


def test_long_words_are_refused_at_once() -> None:
    for words in ("silent, " * 100_000, "fault, then " * 100_000 + "x", "1 of 2 accepted, " * 100_000):
        with pytest.raises(ValueError, match="'observed' "):
            facts_of_words(words)


def test_a_file_of_schema_1_is_read_and_can_be_written_anew(tmp_path: Path) -> None:
    cells = matrix_file.read(FILE)
    assert len({seen_in_words(cell) for cell in cells}) == len(cells)
    matrix_file.write(cells, tmp_path / "matrix.json")
    assert matrix_file.read(tmp_path / "matrix.json") == cells  # what is unknown stays unknown
