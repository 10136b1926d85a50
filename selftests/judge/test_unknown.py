"""A kernel of which nothing is predicted passes where it is consistent with one possible era, else it fails."""

import pytest
from cpuidlab.experiment.observation import Observation, Probe
from cpuidlab.judge.discrepancies import Expectation
from cpuidlab.judge.eras import Era, era, eras
from cpuidlab.judge.expectations import changed
from cpuidlab.judge.unknown import judge_unknown, suspects_of
from cpuidlab.judge.verdict import Verdict
from observations import REFUSED, SILENT, WARNED, seen

TWO = (era("false-refusal"), era("forbid-changed"))


def pending(one: Era) -> Expectation:
    return Expectation(one.pending, defect=one.defect)


@pytest.mark.parametrize(
    ("among", "observation", "verdict", "words"),
    [
        (eras(), SILENT, Verdict.PASS, "consistent with era silent"),
        (eras(), WARNED, Verdict.PASS, "consistent with era warn"),
        (eras(), REFUSED, Verdict.PASS, "consistent with era forbid-"),
        (TWO, REFUSED, Verdict.PASS, "consistent with era forbid-changed"),
        (
            TWO,
            SILENT,
            Verdict.FAIL,
            "consistent with none of the eras that are possible: forbid-changed, false-refusal",
        ),
        (eras(), seen("accepted", "EINVAL", model="before"), Verdict.FAIL, "consistent with none"),
    ],
)
def test_a_changed_model(among: tuple[Era, ...], observation: Observation, verdict: Verdict, words: str) -> None:
    found = judge_unknown(changed, among, observation, promise="a promise", rerun="run it")
    assert found.verdict is verdict
    assert words in found.reason


def test_a_defect_is_known_and_a_sound_kernel_passes() -> None:
    refused = judge_unknown(pending, TWO, seen("EINVAL", model="other"), promise="", rerun="")
    assert (refused.verdict, "93da6af3ae56" in refused.reason) == (Verdict.KNOWN, True)
    sound = judge_unknown(pending, TWO, seen("accepted"), promise="", rerun="")
    assert sound.verdict is Verdict.PASS


def test_what_was_not_seen_is_an_error_where_an_era_may_fit() -> None:
    blind = seen("EINVAL", model="before", guest=None)
    assert judge_unknown(changed, TWO, blind, promise="", rerun="").verdict is Verdict.ERROR
    broken = seen("accepted", guest=None)
    assert judge_unknown(changed, TWO, broken, promise="", rerun="").verdict is Verdict.FAIL


def test_a_probe_narrows_what_is_possible() -> None:
    assert suspects_of(TWO, Probe("accepted", "EINVAL", 0, 0)) == [*TWO]
    assert suspects_of(eras(), Probe("accepted", "accepted", 2, 2)) == [era("warn")]
    assert suspects_of(TWO, Probe("accepted", "accepted", 0, 0)) == TWO
    assert suspects_of(TWO, None) == [*TWO]
