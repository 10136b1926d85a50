"""The one outcome that each cell shows, and how outcomes and verdicts look."""

from dataclasses import replace
from pathlib import Path

import pytest
from cells import CELL, DIED, SILENT, facts
from cpuidlab.experiment.facts import Facts, GuestState
from cpuidlab.experiment.note import Note
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report import outcome
from cpuidlab.report.gist import answer_of, errnos_of
from cpuidlab.report.outcome import OUTCOMES, STYLES, outcome_of

ONE_OF_TWO = ("accepted", "EINVAL")


@pytest.mark.parametrize(
    ("facts", "key", "answer", "errnos"),
    [
        (facts("accepted"), "silent", "silent", ()),
        (facts("accepted", lines=1), "warned", "warned", ()),
        (facts("accepted", lines=1, notes=(Note.LOAD_VERIFIED,)), "warned", "warned", ()),
        (facts("EINVAL", "EINVAL"), "refused", "refused", ("EINVAL",)),
        (facts("EFAULT", "E2BIG"), "refused", "refused", ("E2BIG", "EFAULT")),
        (facts(*ONE_OF_TWO), "partly", "partly", ("EINVAL",)),
        (facts(*ONE_OF_TWO, lines=1), "partly", "partly", ("EINVAL",)),
        (facts("accepted", guest=GuestState.DIED), "died", "silent", ()),
        (facts("EINVAL", guest=GuestState.DIED), "ended", "refused", ("EINVAL",)),
        (facts(*ONE_OF_TWO, guest=GuestState.DIED), "died", "partly", ("EINVAL",)),
        (facts("accepted", guest=GuestState.UNSTABLE, notes=(Note.HARMLESS, Note.KILLED)), "harmed", "silent", ()),
        (facts("accepted", lines=1, notes=(Note.MISSED_FAULT, Note.FAULT)), "missed", "warned", ()),
        (facts("accepted", notes=(Note.NO_FAULT, Note.NO_FAULT)), "silent", "silent", ()),
        (facts(notes=(Note.ALL_REFUSED,)), "refused", None, ()),
        (facts(notes=(Note.ALL_TAKEN,)), "silent", None, ()),
        (facts(notes=(Note.ALL_TAKEN,), lines=1), "warned", "warned", ()),
        (facts(notes=(Note.PARTLY_TAKEN,)), "other", None, ()),
        (facts(model="other"), "other", None, ()),
        (facts(), "stable", None, ()),
        (facts(guest=GuestState.UNSEEN), "stable", None, ()),
        (None, "other", None, ()),
    ],
)
def test_the_outcome_of_what_was_seen(
    facts: Facts | None, key: str, answer: str | None, errnos: tuple[str, ...]
) -> None:
    assert outcome_of(replace(CELL, facts=facts)).key == key
    assert (answer_of(facts), errnos_of(facts)) == (answer, errnos)


def test_what_says_nothing_of_the_kernel_looks_like_nothing_else() -> None:
    for verdict, key in ((Verdict.ERROR, "error"), (Verdict.SKIP, "skipped"), (Verdict.KNOWN, "known")):
        assert outcome_of(replace(CELL, facts=SILENT, verdict=verdict)).key == key
    assert outcome_of(replace(CELL, facts=DIED, verdict=Verdict.FAIL)).key == "died"
    assert outcome_of(None).key == "untested"
    css = (Path(outcome.__file__).parent / "templates/matrix.css.j2").read_text()
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
