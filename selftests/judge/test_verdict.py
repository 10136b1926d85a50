"""From an observation to a verdict and its reason."""

from dataclasses import replace

import pytest
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import Model, Observation, Unseen
from cpuidlab.judge.discrepancies import Expectation
from cpuidlab.judge.eras import Era, era, eras
from cpuidlab.judge.expectations import changed, with_nested_state
from cpuidlab.judge.verdict import Judgement, Verdict, judge
from cpuidlab.kvm.kmsg import Record
from cpuidlab.kvm.warning import WARNING_LINES
from observations import REFUSED, SILENT, WARNED, seen

RERUN = "avocado run tests/after_run.py --hosts 5.10"
MISSED, FAULT = Note.MISSED_FAULT, Note.FAULT


def pending(one: Era) -> Expectation:
    """What each era promises for the identical model while a runtime bit waits for its update."""
    model: Model | None = "other" if one.defect else None
    return Expectation(one.pending, warns=one.lines, model=model, defect=one.defect)


def judged(predicted: str, observation: Observation, probed: str | None = None) -> Judgement:
    shown = era(probed) if probed else None
    return judge(changed, era(predicted), shown, observation, promise="a harmless change", rerun=RERUN)


def test_pass() -> None:
    assert judged("warn", WARNED) == Judgement(Verdict.PASS, "warned: a harmless change")


def test_fail_says_it_all_in_one_line() -> None:
    half = seen("accepted", "accepted", texts=[WARNING_LINES[0], WARNING_LINES[0], "KVM: will not fail"])
    verdict = judged("warn", half)
    first, second = verdict.reason.split("\n")
    assert verdict.verdict is Verdict.FAIL
    assert first == (
        f'the host log lacks the line "{WARNING_LINES[1]}"; '
        f"promised by era warn (commit 63f5a1909f9e): a harmless change; rerun: {RERUN}"
    )
    assert second == 'the host logged, at level 4: "KVM: will not fail"'


def test_a_backport_is_a_warning_that_names_it() -> None:
    verdict = judged("warn", REFUSED, probed="forbid-changed")
    assert verdict.verdict is Verdict.WARN
    assert verdict.reason.split("\n")[0] == (
        "refused EINVAL: behaves as forbid-changed"
        " (commits c6617c61e8fe, ee3a5f9e3d9b, 811f95ff9527, 5c89be1dd5cf, backported), not as warn"
    )
    assert judged("silent", WARNED, probed="warn").verdict is Verdict.WARN


def test_a_backport_excuses_only_what_it_promises() -> None:
    assert judged("warn", seen("EINVAL", "EINVAL", model="other"), probed="forbid-changed").verdict is Verdict.FAIL
    assert judged("warn", REFUSED).verdict is Verdict.FAIL
    assert judged("warn", REFUSED, probed="warn").verdict is Verdict.FAIL


def test_what_was_not_looked_at_hides_no_broken_promise() -> None:
    blind = replace(seen("EINVAL", "EINVAL", model="before"), guest=None)
    assert judge(changed, era("silent"), None, blind, promise="", rerun=RERUN).verdict is Verdict.FAIL
    warning = Record(4, 0, 9, 29.6, "WARNING: CPU: 0 PID: 114 at arch/x86/kvm/cpuid.c:1 some_place+0x1/0x2")
    never = replace(seen(), host_log=(warning,))
    told = judge(changed, era("forbid-changed"), None, never, promise="", rerun=RERUN)
    assert (told.verdict, "WARNING" in told.reason) == (Verdict.FAIL, True)
    for observation, why in ((seen(), "KVM_SET_CPUID was never called"), (blind, "nobody looked")):
        told = judge(changed, era("forbid-changed"), None, observation, promise="", rerun=RERUN)
        assert told.verdict is Verdict.ERROR
        assert told.reason.startswith(why)


def test_a_guest_that_nobody_saw_hides_no_broken_promise_and_keeps_none() -> None:
    def at(name: str, observation: Observation) -> Judgement:
        unseen = replace(observation, guest=None, unseen=Unseen("no login", "its console"))
        return judge(changed, era(name), era(name), unseen, promise="", rerun=RERUN)

    assert at("silent", REFUSED).verdict is Verdict.FAIL
    assert at("forbid-changed", REFUSED) == Judgement(Verdict.ERROR, "no login", "its console")
    on_its_own = replace(REFUSED, guest=None, unseen=Unseen("no login"))
    told = judge(
        lambda of: replace(changed(of), guest=None), era("forbid-changed"), None, on_its_own, promise="", rerun=RERUN
    )
    assert told.verdict is Verdict.ERROR


def test_a_later_era_explains_nothing_of_a_guest_that_nobody_saw() -> None:
    blind = replace(REFUSED, guest=None)
    told = judge(changed, era("warn"), era("forbid-changed"), blind, promise="", rerun=RERUN)
    assert (told.verdict, told.reason[:13]) == (Verdict.ERROR, "nobody looked")


def test_a_backport_that_no_probe_can_see_is_a_warning_too() -> None:
    def at(predicted: str, probed: str) -> Judgement:
        alone = seen("EINVAL", model="before")
        return judge(with_nested_state, era(predicted), era(probed), alone, promise="L2 is active", rerun=RERUN)

    told = at("forbid-changed", "forbid-changed")
    assert told.verdict is Verdict.WARN
    assert "behaves as forbid-changed-l2 (commit b47b93c15b12, backported)" in told.reason
    assert at("warn", "warn").verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("predicted", "probed", "observation", "commit"),
    [
        ("forbid-changed", "silent", SILENT, "63f5a1909f9e"),
        ("forbid-changed-l2", "warn", WARNED, "feb627e8d6f6"),
        ("warn", "silent", SILENT, "63f5a1909f9e"),
    ],
)
def test_an_earlier_era_is_a_broken_promise(predicted: str, probed: str, observation: Observation, commit: str) -> None:
    verdict = judged(predicted, observation, probed)
    assert verdict.verdict is Verdict.FAIL
    assert f"(behaves as before commit {commit})" in verdict.reason.split("\n")[0]


def test_the_known_defect() -> None:
    def at(predicted: str, observation: Observation) -> Judgement:
        return judge(pending, era(predicted), None, observation, promise="the same model again", rerun=RERUN)

    refused = seen("EINVAL", "EINVAL", model="other")
    assert at("false-refusal", refused).verdict is Verdict.KNOWN
    assert "93da6af3ae56" in at("false-refusal", refused).reason
    assert at("forbid-changed", refused).verdict is Verdict.FAIL
    mended = at("false-refusal", SILENT)
    assert mended.verdict is Verdict.WARN
    assert "e2b43fb25243" in mended.reason
    assert at("false-refusal", WARNED).verdict is Verdict.FAIL


@pytest.mark.parametrize("predicted", eras(), ids=lambda one: one.name)
def test_only_the_promised_behaviour_passes(predicted: Era) -> None:
    fitting = {"silent": SILENT, "warn": WARNED}.get(predicted.name, REFUSED)
    for observation in (SILENT, WARNED, REFUSED):
        verdict = judge(changed, predicted, None, observation, promise="", rerun="").verdict
        assert verdict is (Verdict.PASS if observation is fitting else Verdict.FAIL)


def test_other_notes_fail_and_a_later_era_may_explain_them() -> None:
    def expect(one: Era) -> Expectation:
        return replace(changed(one), notes=(FAULT,) if one.name == "warn" else (MISSED,))

    def at(observation: Observation, notes: tuple[Note, ...], probed: str | None = None) -> Judgement:
        shown = era(probed) if probed else None
        noted = replace(observation, notes=notes)
        return judge(expect, era("silent"), shown, noted, promise="a promise", rerun=RERUN)

    assert at(SILENT, (MISSED,)) == Judgement(Verdict.PASS, "silent, missed fault: a promise")
    failed = at(SILENT, (FAULT,))
    assert failed.verdict is Verdict.FAIL
    assert failed.reason.startswith("seen was 'fault' instead of 'missed fault'; promised by era silent")
    assert at(WARNED, (FAULT,), "warn").verdict is Verdict.WARN
    assert at(WARNED, (MISSED,), "warn").verdict is Verdict.FAIL
