"""What a cell says of a test, word for word: people compare these lines from one matrix to the next."""

from dataclasses import replace

import pytest
from cpuidlab.experiment.facts import facts_of
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import Observation
from cpuidlab.experiment.words import NOTE_WORDS, in_words
from cpuidlab.kvm.warning import WARNING_LINES
from observations import DEAD, REFUSED, SICK, SILENT, WARNED, seen, touch


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (seen(model=None), "stable"),
        (seen(model=None, guest=SICK), "guest unstable"),
        (seen(model=None, guest=None), "nothing changed"),
        (seen(model=None, guest=None, fate=DEAD), "guest died"),
        (seen(model=None, texts=WARNING_LINES), "warned"),
        (SILENT, "silent"),
        (WARNED, "warned"),
        (REFUSED, "refused EINVAL"),
        (seen("accepted", guest=None, fate=DEAD), "silent, guest died"),
        (seen("accepted", texts=WARNING_LINES, guest=None, fate=DEAD), "warned, guest died"),
        (seen("EINVAL", model="other"), "refused EINVAL, wrong model"),
        (seen("EINVAL", touched=[touch(0, "dr7")]), "refused EINVAL, vCPU state changed"),
        (seen("accepted", touched=[touch(1, "dr7", answer="accepted", change="")]), "silent, vCPU state changed"),
        (seen("accepted", touched=[touch(0, "dr7", answer="accepted")]), "silent"),
        (seen("EINVAL", texts=WARNING_LINES), "refused EINVAL, warned"),
        (seen("accepted", "EINVAL", guest=SICK), "1 of 2 accepted, refused EINVAL, guest unstable"),
        (seen("EPERM", "EINVAL"), "refused EINVAL/EPERM"),
        (seen("accepted", texts=WARNING_LINES, level=6), "silent"),
    ],
)
def test_words_of_what_was_seen(observation: Observation, words: str) -> None:
    assert in_words(facts_of(observation)) == words


TWO = (Note.MISSED_FAULT, Note.FAULT)


@pytest.mark.parametrize(
    ("observation", "notes", "words"),
    [
        (seen("accepted"), TWO, "silent, missed fault, then fault"),
        (seen("accepted"), (Note.LOAD_VERIFIED,), "silent, load verified"),
        (seen(model=None), (Note.ALL_TAKEN,), "all taken but what KVM checks, stable"),
        (seen(model=None, guest=None), TWO, "missed fault, then fault"),
        (
            seen("EINVAL", model="other", guest=SICK),
            (Note.OSXSAVE_STALE,),
            "refused EINVAL, wrong model, OSXSAVE stale, guest unstable",
        ),
        (seen("accepted", guest=None, fate=DEAD), TWO, "silent, missed fault, then fault, guest died"),
    ],
)
def test_notes_stand_between_the_answer_and_the_guest(
    observation: Observation, notes: tuple[Note, ...], words: str
) -> None:
    assert in_words(replace(facts_of(observation), notes=notes)) == words


def test_every_note_has_words_of_its_own() -> None:
    assert set(NOTE_WORDS) == set(Note)
    assert len(set(NOTE_WORDS.values())) == len(Note)
