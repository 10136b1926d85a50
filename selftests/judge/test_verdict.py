import dataclasses
from typing import Literal

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.experiment.observation import (
    Fate,
    GuestReport,
    Model,
    Observation,
    Probe,
)
from cpuidlab.experiment.witnesses import agree
from cpuidlab.judge.eras import Era, era, eras
from cpuidlab.judge.expectations import with_l2
from cpuidlab.judge.verdict import Expectation, Judgement, Verdict, candidates, discrepancies, judge, probe_era
from cpuidlab.kvm.kmsg import Record
from cpuidlab.kvm.warning import WARNING_LINES
from observations import DEAD, REFUSED, SICK, SILENT, STABLE, WARNED, seen

RERUN = "avocado run tests/after_run.py --hosts 5.10"


def changed(one: Era) -> Expectation:
    """What each era promises for a harmless change of two vCPUs that have run."""
    accepted = one.changed == "accepted"
    return Expectation(one.changed, lines=2 if one.lines else 0, model="asked" if accepted else "before")


def pending(one: Era) -> Expectation:
    """What each era promises for the identical model while a runtime bit waits for its update."""
    model: Model | None = "other" if one.defect else None
    return Expectation(one.pending, lines=2 if one.lines else 0, model=model, defect=one.defect)


def judged(predicted: str, observation: Observation, probed: str | None = None) -> Judgement:
    shown = era(probed) if probed else None
    return judge(changed, era(predicted), shown, observation, promise="a harmless change", rerun=RERUN)


def test_nothing_to_say() -> None:
    assert discrepancies(changed(era("silent")), SILENT) == ()
    assert discrepancies(changed(era("warn")), WARNED) == ()
    assert discrepancies(changed(era("forbid-changed")), REFUSED) == ()
    assert discrepancies(Expectation(None), seen(model=None)) == ()


@pytest.mark.parametrize("missing", WARNING_LINES)
def test_a_missing_line_is_quoted(missing: str) -> None:
    texts = [line for line in WARNING_LINES * 2 if line != missing]
    assert discrepancies(changed(era("warn")), seen("accepted", "accepted", texts=texts)) == (
        f'the host log lacks the line "{missing}"',
    )


def test_a_line_too_few_and_a_line_too_many() -> None:
    few = seen("accepted", "accepted", texts=WARNING_LINES)
    found = discrepancies(changed(era("warn")), few)
    assert found == tuple(f'the host logged 1 times instead of 2: "{line}"' for line in WARNING_LINES)
    many = seen("accepted", "accepted", texts=WARNING_LINES * 3)
    assert len(discrepancies(changed(era("warn")), many)) == 2


@pytest.mark.parametrize(("count", "good"), [(9, False), (10, True), (30, True), (31, False)])
def test_the_rate_limit(count: int, good: bool) -> None:
    texts = [*WARNING_LINES * count, "kvm_mmu_after_set_cpuid: 20 callbacks suppressed"]
    expectation = Expectation("accepted", lines=30)
    assert (discrepancies(expectation, seen(*["accepted"] * 30, texts=texts)) == ()) is good


NOTE = "kvm_mmu_after_set_cpuid: 20 callbacks suppressed"


@pytest.mark.parametrize(
    ("first", "second", "notes", "wrong"),
    [
        (10, 10, 1, []),
        (10, 10, 2, []),
        (9, 10, 1, [f'the host logged 9 times instead of 10: "{WARNING_LINES[0]}"']),
        (10, 30, 1, [f'the host logged 30 times instead of 10: "{WARNING_LINES[1]}"']),
        (0, 10, 1, [f'the host log lacks the line "{WARNING_LINES[0]}"']),
        (10, 10, 0, ['the host log lacks the note of "callbacks suppressed"']),
    ],
)
def test_a_limited_log_is_exact_and_says_what_it_left_out(
    first: int, second: int, notes: int, wrong: list[str]
) -> None:
    texts = [WARNING_LINES[0]] * first + [WARNING_LINES[1]] * second + [NOTE] * notes
    observation = seen(*["accepted"] * 30, texts=texts)
    assert list(discrepancies(Expectation("accepted", lines=30, limited=10), observation)) == wrong


def test_a_limit_may_be_more_than_one_burst() -> None:
    expectation = Expectation("accepted", lines=30, limited=20)
    for count, wrong in ((20, 0), (15, 2)):
        observation = seen(*["accepted"] * 30, texts=[*WARNING_LINES * count, NOTE])
        assert len(discrepancies(expectation, observation)) == wrong


def test_a_note_of_suppressed_lines_is_noise_where_nothing_can_be_suppressed() -> None:
    texts = [*WARNING_LINES * 10, NOTE]
    found = discrepancies(Expectation("accepted", lines=10), seen(*["accepted"] * 10, texts=texts))
    assert found == (f'the host logged, at level 4: "{NOTE}"',)


@pytest.mark.parametrize(
    ("expected", "noted", "wrong"),
    [
        (None, ("missed fault",), ()),
        (("missed fault", "fault"), ("missed fault", "fault"), ()),
        (("fault",), ("missed fault",), ("seen was 'missed fault' instead of 'fault'",)),
        (("fault", "no fault"), ("no fault", "fault"), ("seen was 'no fault, fault' instead of 'fault, no fault'",)),
        (("fault",), (), ("seen was 'nothing' instead of 'fault'",)),
        ((), ("fault",), ("seen was 'fault' instead of 'nothing'",)),
    ],
)
def test_notes(expected: tuple[str, ...] | None, noted: tuple[str, ...], wrong: tuple[str, ...]) -> None:
    promised = dataclasses.replace(changed(era("silent")), notes=expected)
    assert discrepancies(promised, dataclasses.replace(SILENT, notes=noted)) == wrong


def test_other_notes_fail_and_a_later_era_may_explain_them() -> None:
    def expect(one: Era) -> Expectation:
        return dataclasses.replace(changed(one), notes=("fault",) if one.name == "warn" else ("missed fault",))

    def at(observation: Observation, notes: tuple[str, ...], probed: str | None = None) -> Judgement:
        shown = era(probed) if probed else None
        noted = dataclasses.replace(observation, notes=notes)
        return judge(expect, era("silent"), shown, noted, promise="a promise", rerun=RERUN)

    assert at(SILENT, ("missed fault",)) == Judgement(Verdict.PASS, "silent, missed fault: a promise")
    failed = at(SILENT, ("fault",))
    assert failed.verdict is Verdict.FAIL
    assert failed.reason.startswith("seen was 'fault' instead of 'missed fault'; promised by era silent")
    assert at(WARNED, ("fault",), "warn").verdict is Verdict.WARN
    assert at(WARNED, ("missed fault",), "warn").verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("text", "level", "allowed"),
    [
        ("KVM: KVM_SET_CPUID{,2} after KVM_RUN may cause guest trouble", 4, False),
        (WARNING_LINES[0], 6, False),
        (WARNING_LINES[0], 4, False),
        ("kvm [611]: vcpu0, guest rIP: 0xffffffff81070a24 unhandled rdmsr: 0x10a", 6, False),
        ("kvm_set_cpuid: 3 callbacks suppressed", 4, False),
        ("TCP: request_sock_TCP: Possible SYN flooding on port 22", 4, False),
        ("watchdog: BUG: soft lockup - CPU#1 stuck for 22s!", 0, False),
        ("tun: Universal TUN/TAP device driver, 1.6", 6, True),
        ("hrtimer: interrupt took 8412331 ns", 4, True),
        ("kvm: kvm [148]: vcpu0, guest rIP: 0xffffffff87a73744 Unhandled WRMSR(0xc0010007) = 0xffff", 3, True),
        ("user requested TSC rate below hardware speed", 4, True),
        ("kvm: user requested TSC rate below hardware speed", 4, True),
        ("kvm: SMP vm created on host with unstable TSC; guest TSC will not be reliable", 4, True),
        ("TSC found unstable after boot, most likely due to broken BIOS. Use 'tsc=unstable'.", 4, True),
        ("workqueue: vmstat_shepherd hogged CPU for >10000us 4 times, consider switching to WQ_UNBOUND", 4, True),
        ("kvm: SMP vm created", 4, False),
        ("kvm [112]: vcpu0, guest rIP: 0xffffffffb0c73744 Unhandled WRMSR(0xc0010007) = 0xffff", 3, True),
    ],
)
def test_silence(text: str, level: int, allowed: bool) -> None:
    found = discrepancies(changed(era("silent")), seen("accepted", "accepted", texts=[text], level=level))
    assert (found == ()) is allowed
    assert allowed or text in found[0]


def test_death_and_sickness() -> None:
    promised = changed(era("silent"))
    dead = seen("accepted", guest=None, fate=DEAD)
    assert discrepancies(promised, dead) == ("the guest died after 0.4 s (triple fault) instead of staying stable",)
    assert discrepancies(promised, seen("accepted", guest=SICK)) == ("the guest is not stable: oops: Oops: 0009 [#1]",)
    dies = dataclasses.replace(promised, guest="dies")
    assert discrepancies(dies, dead) == ()
    assert discrepancies(dies, SILENT) == ("the guest lived on instead of dying",)
    assert discrepancies(dataclasses.replace(promised, guest=None), seen("accepted", guest=None)) == ()
    harmed = dataclasses.replace(promised, guest="harmed")
    assert discrepancies(harmed, seen("accepted", guest=SICK)) == ()
    assert discrepancies(harmed, SILENT) == ("the guest took no harm",)
    assert discrepancies(harmed, dead) == ("the guest died after 0.4 s (triple fault) instead of living on, harmed",)


STALLS = ("stall: rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "stall: rcu: rcu_preempt kthread starved")


@pytest.mark.parametrize("hoped", ["stable", "harmed"])
def test_a_guest_that_only_stood_still_says_nothing(hoped: Literal["stable", "harmed"]) -> None:
    promised = dataclasses.replace(changed(era("silent")), guest=hoped)
    stood = GuestReport(False, STALLS)
    with pytest.raises(LabError, match=r"stood still and went on, .*: stall: rcu: INFO"):
        discrepancies(promised, seen("accepted", guest=stood))
    assert len(discrepancies(promised, seen("EINVAL", guest=stood))) >= 1
    both = GuestReport(False, (*STALLS, "oops: Oops: 0009 [#1]"))
    assert len(discrepancies(promised, seen("accepted", guest=both))) == (hoped == "stable")


def test_models_and_answers() -> None:
    promised = changed(era("forbid-changed"))
    assert discrepancies(promised, seen("EINVAL", model="other")) == (
        "KVM's CPUID afterwards is neither of the two, not the one from before",
    )
    assert discrepancies(promised, seen("accepted", "EINVAL", model="before")) == (
        "KVM_SET_CPUID was answered accepted on vCPU 0 instead of EINVAL",
    )
    assert "nothing was to be changed" in discrepancies(Expectation(None), SILENT)[0]
    assert discrepancies(dataclasses.replace(promised, guest="dies"), seen("EINVAL", model=None, fate=DEAD)) == ()


@pytest.mark.parametrize(
    "observation", [seen("accepted", model=None), seen("accepted", guest=None), seen(guest=STABLE)]
)
def test_what_nobody_looked_at_is_a_lab_error(observation: Observation) -> None:
    with pytest.raises(LabError):
        discrepancies(changed(era("silent")), observation)


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
        "refused EINVAL: behaves as forbid-changed (commits c6617c61e8fe, ee3a5f9e3d9b, backported), not as warn"
    )
    assert judged("silent", WARNED, probed="warn").verdict is Verdict.WARN


def test_a_backport_excuses_only_what_it_promises() -> None:
    assert judged("warn", seen("EINVAL", "EINVAL", model="other"), probed="forbid-changed").verdict is Verdict.FAIL
    assert judged("warn", REFUSED).verdict is Verdict.FAIL
    assert judged("warn", REFUSED, probed="warn").verdict is Verdict.FAIL


def test_what_was_not_looked_at_hides_no_broken_promise() -> None:
    blind = dataclasses.replace(seen("EINVAL", "EINVAL", model="before"), guest=None)
    assert judge(changed, era("silent"), None, blind, promise="", rerun=RERUN).verdict is Verdict.FAIL
    warning = Record(4, 0, 9, 29.6, "WARNING: CPU: 0 PID: 114 at arch/x86/kvm/cpuid.c:1 some_place+0x1/0x2")
    never = dataclasses.replace(seen(), host_log=(warning,))
    told = judge(changed, era("forbid-changed"), None, never, promise="", rerun=RERUN)
    assert (told.verdict, "WARNING" in told.reason) == (Verdict.FAIL, True)
    with pytest.raises(LabError, match="never called"):
        judge(changed, era("forbid-changed"), None, seen(), promise="", rerun=RERUN)
    with pytest.raises(LabError, match="nobody looked"):
        judge(changed, era("forbid-changed"), None, blind, promise="", rerun=RERUN)


def test_a_backport_that_no_probe_can_see_is_a_warning_too() -> None:
    def at(predicted: str, probed: str) -> Judgement:
        alone = seen("EINVAL", model="before")
        return judge(with_l2, era(predicted), era(probed), alone, promise="L2 is active", rerun=RERUN)

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


def test_witnesses_that_agree() -> None:
    agree(SILENT, [(1, "accepted"), (0, "accepted")])
    agree(seen("accepted", guest=None, fate=DEAD), [(0, "accepted")])
    agree(seen(model=None), [])
    agree(seen(model=None, texts=WARNING_LINES), [], swept=True)


@pytest.mark.parametrize(
    ("observation", "hook", "words"),
    [
        (SILENT, [(0, "accepted")], "the caller got accepted on vCPU 0, accepted on vCPU 1, the hook's log has"),
        (SILENT, [(0, "accepted"), (1, "EINVAL")], "EINVAL on vCPU 1"),
        (seen(model=None, texts=WARNING_LINES), [], "the hook never saw"),
        (seen("accepted", fate=DEAD), [(0, "accepted")], "said to be stable, and QEMU to be gone"),
        (seen("accepted", fate=Fate(True, exit_code=1)), [(0, "accepted")], "have exited with 1"),
        (seen("accepted", guest=None, fate=Fate(False)), [(0, "accepted")], "nobody can say how it ended"),
    ],
)
def test_witnesses_that_contradict(observation: Observation, hook: list[tuple[int, str]], words: str) -> None:
    with pytest.raises(LabError, match="contradict each other") as caught:
        agree(observation, hook)
    assert words in str(caught.value)


FORBID = ["false-refusal", "forbid-changed", "forbid-changed-l2"]


@pytest.mark.parametrize(
    ("probe", "names"),
    [
        (Probe("accepted", "accepted", 0, 0), ["silent"]),
        (Probe("accepted", "accepted", 2, 2), ["warn"]),
        (Probe("EINVAL", "EINVAL", 0, 0), ["forbid-all", "false-refusal"]),
        (Probe("accepted", "EINVAL", 0, 0), FORBID),
        (Probe("accepted", "accepted", 1, 2), []),
        (Probe("accepted", "accepted", 0, 2), []),
        (Probe("accepted", "EINVAL", 0, 2), []),
        (Probe("EINVAL", "accepted", 0, 0), []),
        (Probe("EPERM", "EPERM", 0, 0), []),
    ],
)
def test_probes(probe: Probe, names: list[str]) -> None:
    assert [one.name for one in candidates(probe)] == names


def test_the_predicted_era_wins_if_it_fits() -> None:
    probe = Probe("accepted", "EINVAL", 0, 0)
    for name in FORBID:
        assert probe_era(probe, era(name)) == era(name)
    assert probe_era(probe, era("warn")) == era("forbid-changed")
    assert probe_era(Probe("EINVAL", "EINVAL", 0, 0), era("warn")) == era("forbid-all")
    assert probe_era(Probe("EPERM", "EPERM", 0, 0), era("warn")) is None
