"""In what an observation differs from what is expected, a sentence for each difference."""

from dataclasses import replace
from typing import Literal

import pytest
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import Fate, GuestReport, Observation, Touched
from cpuidlab.judge.discrepancies import Discrepancies, Expectation, compare
from cpuidlab.judge.eras import era
from cpuidlab.judge.expectations import changed
from cpuidlab.kvm.warning import WARNING_LINES
from observations import DEAD, REFUSED, SICK, SILENT, STABLE, WARNED, seen, touch


def broken(expectation: Expectation, observation: Observation) -> tuple[str, ...]:
    return compare(expectation, observation).broken


def test_nothing_to_say() -> None:
    assert broken(changed(era("silent")), SILENT) == ()
    assert broken(changed(era("warn")), WARNED) == ()
    assert broken(changed(era("forbid-changed")), REFUSED) == ()
    assert broken(Expectation(None), seen(model=None)) == ()


@pytest.mark.parametrize("missing", WARNING_LINES)
def test_a_missing_line_is_quoted(missing: str) -> None:
    texts = [line for line in WARNING_LINES * 2 if line != missing]
    assert broken(changed(era("warn")), seen("accepted", "accepted", texts=texts)) == (
        f'the host log lacks the line "{missing}"',
    )


def test_a_line_too_few_and_a_line_too_many() -> None:
    few = seen("accepted", "accepted", texts=WARNING_LINES)
    found = broken(changed(era("warn")), few)
    assert found == tuple(f'the host logged 1 times instead of 2: "{line}"' for line in WARNING_LINES)
    many = seen("accepted", "accepted", texts=WARNING_LINES * 3)
    assert len(broken(changed(era("warn")), many)) == 2


@pytest.mark.parametrize(("count", "good"), [(9, False), (10, True), (30, True), (31, False)])
def test_the_rate_limit(count: int, good: bool) -> None:
    texts = [*WARNING_LINES * count, "kvm_mmu_after_set_cpuid: 20 callbacks suppressed"]
    expectation = Expectation("accepted", warns=True)
    assert (broken(expectation, seen(*["accepted"] * 30, texts=texts)) == ()) is good


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
    assert list(broken(Expectation("accepted", warns=True, limited=10), observation)) == wrong


def test_a_limit_may_be_more_than_one_burst() -> None:
    expectation = Expectation("accepted", warns=True, limited=20)
    for count, wrong in ((20, 0), (15, 2)):
        observation = seen(*["accepted"] * 30, texts=[*WARNING_LINES * count, NOTE])
        assert len(broken(expectation, observation)) == wrong


def test_a_note_of_suppressed_lines_is_noise_where_nothing_can_be_suppressed() -> None:
    texts = [*WARNING_LINES * 10, NOTE]
    found = broken(Expectation("accepted", warns=True), seen(*["accepted"] * 10, texts=texts))
    assert found == (f'the host logged, at level 4: "{NOTE}"',)


MISSED, FAULT, NONE = Note.MISSED_FAULT, Note.FAULT, Note.NO_FAULT


@pytest.mark.parametrize(
    ("expected", "noted", "wrong"),
    [
        (None, (MISSED,), ()),
        ((MISSED, FAULT), (MISSED, FAULT), ()),
        ((FAULT,), (MISSED,), ("seen was 'missed fault' instead of 'fault'",)),
        ((FAULT, NONE), (NONE, FAULT), ("seen was 'no fault, then fault' instead of 'fault, then no fault'",)),
        ((FAULT,), (), ("seen was 'nothing' instead of 'fault'",)),
        ((), (FAULT,), ("seen was 'fault' instead of 'nothing'",)),
    ],
)
def test_notes(expected: tuple[Note, ...] | None, noted: tuple[Note, ...], wrong: tuple[str, ...]) -> None:
    promised = replace(changed(era("silent")), notes=expected)
    assert broken(promised, replace(SILENT, notes=noted)) == wrong


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
    found = broken(changed(era("silent")), seen("accepted", "accepted", texts=[text], level=level))
    assert (found == ()) is allowed
    assert allowed or text in found[0]


def test_death_and_sickness() -> None:
    promised = changed(era("silent"))
    dead = seen("accepted", guest=None, fate=DEAD)
    assert broken(promised, dead) == ("the guest died after 0.4 s (triple fault) instead of staying stable",)
    assert broken(promised, seen("accepted", guest=SICK)) == ("the guest is not stable: oops: Oops: 0009 [#1]",)
    harmed = replace(promised, guest="harmed")
    assert broken(harmed, seen("accepted", guest=SICK)) == ()
    assert broken(harmed, SILENT) == ("the guest took no harm instead of living on, harmed",)
    assert broken(harmed, dead) == ("the guest died after 0.4 s (triple fault) instead of living on, harmed",)
    suffers = replace(promised, guest="suffers")
    assert broken(suffers, dead) == broken(suffers, seen("accepted", guest=SICK)) == ()
    assert broken(suffers, SILENT) == ("the guest took no harm instead of dying or living on, harmed",)


@pytest.mark.parametrize(
    "end", [SILENT, seen("accepted", model=None, guest=None, fate=DEAD), seen("accepted", guest=SICK)]
)
def test_what_nobody_promises_of_the_guest_breaks_nothing_and_hides_nothing(end: Observation) -> None:
    unpromised = replace(changed(era("silent")), guest=None)
    assert compare(unpromised, end) == Discrepancies()
    for other in (replace(end, answers=REFUSED.answers), replace(end, host_log=WARNED.host_log)):
        assert broken(unpromised, other)
    if end.model:
        assert broken(unpromised, replace(end, model="other"))


@pytest.mark.parametrize("hoped", [None, "suffers"])
def test_a_qemu_that_failed_is_no_guest_that_died(hoped: Literal["suffers"] | None) -> None:
    promised = replace(changed(era("silent")), guest=hoped)
    crash = Fate(False, "QEMU died: it said nothing", None, 139)
    found = compare(promised, seen("accepted", model=None, guest=None, fate=crash))
    assert found.broken == ()
    assert found.unseen == (
        "QEMU failed with exit code 139, which says nothing of its guest: QEMU died: it said nothing",
    )
    refused = replace(changed(era("forbid-changed")), guest=hoped)  # QEMU's own end, after a refusal
    assert compare(refused, seen("EINVAL", model=None, guest=None, fate=crash)) == Discrepancies()


@pytest.mark.parametrize("hoped", ["stable", "suffers", None])
def test_a_qemu_that_somebody_killed_says_nothing_of_the_kernel(hoped: Literal["stable", "suffers"] | None) -> None:
    killed = seen("EINVAL", model=None, guest=None, fate=Fate(False, "QEMU died: Killed", None, 137))
    found = compare(replace(changed(era("forbid-changed")), guest=hoped), killed)
    assert found.broken == ()
    assert found.unseen == ("somebody killed the guest's QEMU with SIGKILL, so nothing can be said of its guest",)
    oops = replace(killed, host_log=seen("EINVAL", texts=["BUG: kernel NULL pointer dereference"]).host_log)
    assert compare(changed(era("forbid-changed")), oops).broken  # a kernel that oopses kills the process


STALLS = ("stall: rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "stall: rcu: rcu_preempt kthread starved")


@pytest.mark.parametrize("hoped", ["stable", "harmed", "suffers"])
def test_a_guest_that_only_stood_still_says_nothing(hoped: Literal["stable", "harmed", "suffers"]) -> None:
    promised = replace(changed(era("silent")), guest=hoped)
    stood = GuestReport(False, STALLS)
    [why] = compare(promised, seen("accepted", guest=stood)).unseen
    assert why.startswith("the guest stood still and went on") and STALLS[0] in why
    assert broken(promised, seen("accepted", guest=stood)) == ()
    assert len(broken(promised, seen("EINVAL", guest=stood))) >= 1
    both = GuestReport(False, (*STALLS, "oops: Oops: 0009 [#1]"))
    assert len(broken(promised, seen("accepted", guest=both))) == (hoped == "stable")


def test_models_and_answers() -> None:
    promised = changed(era("forbid-changed"))
    assert broken(promised, seen("EINVAL", model="other")) == (
        "KVM's CPUID afterwards is neither of the two, not the one from before",
    )
    assert broken(promised, seen("accepted", "EINVAL", model="before")) == (
        "KVM_SET_CPUID was answered accepted on vCPU 0 instead of EINVAL",
    )
    assert "nothing was to be changed" in broken(Expectation(None), SILENT)[0]
    assert broken(replace(promised, guest=None), seen("EINVAL", model=None, fate=DEAD)) == ()


@pytest.mark.parametrize(
    ("observation", "why"),
    [
        (seen("accepted", model=None), "nobody read the CPUID back from KVM"),
        (seen("accepted", guest=None), "nobody looked at the guest's health"),
        (seen(guest=STABLE), "KVM_SET_CPUID was never called"),
    ],
)
def test_what_nobody_looked_at_breaks_no_promise(observation: Observation, why: str) -> None:
    difference = compare(changed(era("silent")), observation)
    assert difference.broken == ()
    assert [text for text in difference.unseen if text.startswith(why)]


def test_what_nobody_looked_at_hides_nothing() -> None:
    difference = compare(changed(era("silent")), seen("accepted", guest=None, model="before"))
    assert difference.broken == ("KVM's CPUID afterwards is the one from before, not the one asked for",)
    assert len(difference.unseen) == 1


def test_figures_behind_a_note_are_told() -> None:
    slow = replace(SILENT, notes=(Note.SLOWER,), figures=("a call took 2.0 s",))
    [why] = broken(replace(changed(era("silent")), notes=(Note.NO_SLOWER,)), slow)
    assert why.endswith(
        "'slower than an identical call' instead of 'no slower than an identical call': a call took 2.0 s"
    )


def test_answers_that_are_due_in_turn() -> None:
    turns = Expectation(("EINVAL", "accepted"), model=None, guest=None)
    assert broken(turns, seen("EINVAL", "accepted", "EINVAL", "accepted")) == ()
    [why] = broken(turns, seen("EINVAL", "accepted", "accepted"))
    assert why == "KVM_SET_CPUID was answered accepted on vCPU 2 instead of EINVAL, accepted"


def test_calls_that_a_test_meant_to_make_and_did_not() -> None:
    promised = replace(changed(era("warn")), calls=2)
    assert compare(promised, WARNED) == Discrepancies()
    [why] = compare(promised, seen("accepted", texts=WARNING_LINES)).unseen
    assert why == "KVM_SET_CPUID was called 1 times instead of 2; mend the test"
    assert broken(promised, seen("accepted", texts=WARNING_LINES)) == ()


@pytest.mark.parametrize(("count", "good"), [(1, False), (2, True), (3, False)])
def test_lines_are_due_for_each_accepted_call(count: int, good: bool) -> None:
    """Whatever KVM answered to the others, and for the calls of a sweep too."""
    half = seen("accepted", "EINVAL", "accepted", texts=WARNING_LINES * count)
    assert (len(broken(changed(era("warn")), half)) == 1) is good
    swept = replace(seen(texts=WARNING_LINES * count), sweep_calls=2)
    assert (broken(Expectation(None, warns=True), swept) == ()) is good


def test_of_the_calls_of_a_sweep_a_burst_of_lines_is_due() -> None:
    for count, good in ((9, False), (10, True), (900, True)):
        swept = replace(seen(texts=[*WARNING_LINES * count, NOTE]), sweep_calls=900)
        assert (broken(Expectation(None, warns=True), swept) == ()) is good


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (touch(0, "dr7"), "a refused KVM_SET_CPUID2 on vCPU 0 changed vCPU 0: dr7 0x400 -> 0x0"),
        (touch(0, "dr7", call=1), "a refused KVM_SET_CPUID on vCPU 0 changed vCPU 0: dr7 0x400 -> 0x0"),
        (touch(1, "dr7"), "a refused KVM_SET_CPUID2 on vCPU 0 changed vCPU 1: dr7 0x400 -> 0x0"),
        (
            touch(0, "dr7", answer="accepted", change=""),
            "an identical KVM_SET_CPUID2 on vCPU 0 changed vCPU 0: dr7 0x400 -> 0x0",
        ),
        (
            touch(0, "dr7", answer="accepted"),
            "an accepted KVM_SET_CPUID2 on vCPU 0 (nx=off) changed vCPU 0: dr7 0x400 -> 0x0",
        ),
        (
            touch(0, "dr0", "dr1", "dr2", "dr3", "dr7", answer="accepted", change="sweep"),
            "a sweep of vCPU 0 changed vCPU 0: dr0 0x400 -> 0x0, dr1 0x400 -> 0x0, dr2 0x400 -> 0x0 and 2 more",
        ),
    ],
)
def test_a_call_that_changed_the_state_of_a_vcpu(call: Touched, sentence: str) -> None:
    answer = "accepted" if call.answer == "accepted" else "EINVAL"
    expected = replace(changed(era("silent" if answer == "accepted" else "forbid-changed")), model=None)
    assert broken(expected, seen(answer, touched=[call])) == (sentence,)


def test_both_vcpus_that_a_call_changed_are_told() -> None:
    both = replace(touch(0, "dr7"), differences=touch(0, "dr7").differences + touch(1, "dr6").differences)
    expected = replace(changed(era("forbid-changed")), model=None)
    assert [text[-39:] for text in broken(expected, seen("EINVAL", touched=[both]))] == [
        "vCPU 0 changed vCPU 0: dr7 0x400 -> 0x0",
        "vCPU 0 changed vCPU 1: dr6 0x400 -> 0x0",
    ]


def test_after_a_change_that_the_table_does_not_name_only_other_vcpus_are_as_before() -> None:
    unknown = touch(0, "dr7", answer="accepted", change="unheard_of=1")
    expected = replace(changed(era("silent")), model=None)
    assert broken(expected, seen("accepted", touched=[unknown])) == ()
    other = touch(1, "dr7", answer="accepted", change="unheard_of=1")
    assert len(broken(expected, seen("accepted", touched=[other]))) == 1
