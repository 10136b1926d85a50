"""What a test does to a guest, on a rig without machines."""

from typing import Any

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError, UnsupportedError, UsageError
from cpuidlab.experiment.guest import Course, Guest
from cpuidlab.experiment.load import Load
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import VcpuAnswer
from cpuidlab.kvm.changes import parse
from cpuidlab.kvm.cpuid import with_field
from fakerig import MARK, FakeProgram, FakeRig, guest_on
from models import EPYC


@pytest.mark.parametrize(("has_run", "course"), [(True, Course.RUNS_ON), (False, Course.STAYS_STOPPED)])
def test_a_guest_begins_stopped_with_all_its_models_read(has_run: bool, course: Course) -> None:
    rig = FakeRig(has_run=has_run)
    guest = Guest(rig.as_rig())
    assert rig.log == ["stop"]
    assert (guest.vcpus, guest.course) == ((0, 1), course)
    assert guest.before == guest.asked == {0: EPYC, 1: EPYC}


def test_of_a_guest_that_does_not_answer_at_first_all_is_told() -> None:
    rig = FakeRig()
    rig.qmp.registers = "CPU#0 RIP=ffffffff81a0b2ab"
    rig.texts["guest-console"] = "rcu: INFO: rcu_sched detected stalls"

    class SilentRig:
        def __getattr__(self, name: str) -> Any:
            if name == "guest":
                raise LabError("waited in vain for SSH to the guest", "the host's console")
            return getattr(rig, name)

    silent: Any = SilentRig()
    with pytest.raises(LabError, match="waited in vain") as caught:
        Guest(silent)
    for told in ("detected stalls", "RIP=ffffffff81a0b2ab", "the host's console"):
        assert told in caught.value.evidence
    rig.qmp.refuses = "human-monitor-command"
    with pytest.raises(LabError, match="waited in vain") as caught:
        Guest(silent)
    for told in ("detected stalls", "human-monitor-command was refused"):
        assert told in caught.value.evidence


def test_a_change_is_set_on_all_vcpus_or_on_those_named() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    narrow = parse("maxphyaddr=36").apply(EPYC)
    assert guest.set_cpuid("maxphyaddr=36", vcpus=[1], call=1, live=True) == "accepted"
    assert guest.asked == rig.hook.models == {0: EPYC, 1: narrow}
    rig.hook.errno = 22
    assert guest.set_cpuid() == "EINVAL"
    assert guest.asked == {0: EPYC, 1: EPYC}
    assert rig.log == ["live set 1 by 1", "set 0 by 2", "set 1 by 2"]
    assert guest.answers == [VcpuAnswer(1, "accepted"), VcpuAnswer(0, "EINVAL"), VcpuAnswer(1, "EINVAL")]


@pytest.mark.parametrize("change", ["padding", "runtime_bits", "padding,runtime_bits"])
def test_of_what_kvm_does_not_compare_nothing_is_expected_back(change: str) -> None:
    guest = guest_on(FakeRig())
    sent = guest.models_with(change, [0])
    assert sent[0] != EPYC
    assert guest.asked == {0: EPYC, 1: EPYC}


def test_of_a_change_that_is_compared_in_part_that_part_is_expected_back() -> None:
    guest = guest_on(FakeRig())
    guest.models_with("padding,nx=off", [0])
    assert guest.asked[0] == parse("nx=off").apply(EPYC)


def test_what_this_cpu_lacks_is_told_before_anything_is_set() -> None:
    rig = FakeRig()
    with pytest.raises(UsageError, match="sev_cbit=47 changes nothing"):
        guest_on(rig).set_cpuid("sev_cbit=47")
    assert rig.log == []


def test_what_was_just_read_is_set_again() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    guest.set_cpuid_just_read()
    assert rig.log == ["set 0 by 2", "set 1 by 2"]
    assert guest.asked == guest.before


def test_calls_that_cannot_succeed() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    guest.set_bad_pointer("maxphyaddr=36", vcpu=0, call=1)
    guest.set_bad_entries("maxphyaddr=36", vcpu=0, call=2)
    guest.set_cpuid("maxphyaddr=36", vcpus=[0], nent=257)
    assert [answer.answer for answer in guest.answers] == ["EFAULT", "EFAULT", "E2BIG"]
    assert rig.log == ["bad pointer 0 by 1", f"bad {len(EPYC)} entries 0 by 2", "set 0 by 2"]
    assert guest.asked[0] != guest.before[0] == rig.hook.models[0]


def test_where_a_guest_boots_its_time_begins_anew() -> None:
    guest = guest_on(FakeRig())
    assert (guest.mark, guest.restarted) == (MARK, set())
    guest.let_boot()
    assert (guest.mark.uptime, guest.mark.kmsg, guest.restarted) == (0.0, -1, {0, 1})


def test_what_qemu_sets_is_an_answer_once() -> None:
    rig = FakeRig()
    rig.hook.answered(0, EPYC, 0, by="qemu")  # before the mark
    guest = guest_on(rig)
    rig.hook.answered(1, EPYC, 22, by="qemu")
    guest.set_cpuid(vcpus=[0])
    guest.take_answers_to_qemu()
    guest.take_answers_to_qemu()
    assert guest.answers == [VcpuAnswer(0, "accepted"), VcpuAnswer(1, "EINVAL")]


def test_models_may_be_taken_as_those_from_before_again() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    guest.set_cpuid("gbpages=off")
    guest.begin_from_here()
    assert guest.before == guest.asked == rig.hook.models != {0: EPYC, 1: EPYC}


LOST = LostVMError("the guest panicked")


def test_a_program_in_the_guest_says_its_words_or_the_guest_has_ended() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    assert guest.output_of(FakeProgram("exit 0\n")) == "exit 0\n"  # type: ignore[arg-type]
    rig.qmp.ended = True
    assert guest.output_of(FakeProgram(LOST)) is None  # type: ignore[arg-type]


def test_a_program_that_does_not_end_in_a_guest_that_lives_is_a_lab_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpuidlab.experiment.guest.END_SECONDS", 0.05)
    with pytest.raises(LostVMError, match="panicked"):
        guest_on(FakeRig()).output_of(FakeProgram(LOST))  # type: ignore[arg-type]


def test_a_program_in_a_guest_that_panicked_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpuidlab.experiment.guest.END_SECONDS", 0.05)
    rig = FakeRig()
    rig.texts["guest-console"] = "[    9.0] Kernel panic - not syncing: Fatal exception\r\n"
    assert guest_on(rig).output_of(FakeProgram(LOST)) is None  # type: ignore[arg-type]


def test_nobody_waits_for_the_end_of_a_guest_that_kvm_has_given_up() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.qmp.status = "internal-error"
    rig.hook.events.append("5.600000001 internal_error vcpu=0\n")
    assert guest.output_of(FakeProgram(LOST)) is None  # type: ignore[arg-type]
    assert guest.deadline.left() > 9


def test_time_is_kept_for_a_look_at_what_does_not_end() -> None:
    class Patient:
        def end(self, deadline: Deadline) -> str:
            return str(deadline.left())

    left = guest_on(FakeRig(seconds=100)).output_of(Patient())  # type: ignore[arg-type]
    assert left is not None and 75 < float(left) < 85


@pytest.mark.parametrize(
    ("output", "note"), [("exit 0\n", Note.LOAD_VERIFIED), ("stress-ng: fail\nexit 2\n", Note.LOAD_FAILED)]
)
def test_load_says_by_itself_whether_its_results_were_right(output: str, note: Note) -> None:
    rig = FakeRig()
    rig.guest.answers["stress-ng"] = output
    guest = guest_on(rig)
    load = Load(guest, seconds=6)
    assert rig.log[0] == "resume" and "--timeout 6;" in rig.log[1]
    load.finish()
    assert guest.notes == [note]
    assert guest.readings == [f"the load said: {output}"]


def test_load_in_a_guest_that_ends_has_failed() -> None:
    rig = FakeRig()
    rig.guest.answers["stress-ng"] = LabError("the program did not end in time")
    guest = guest_on(rig)
    load = Load(guest, seconds=3)
    rig.qmp.ended = True
    load.finish()
    assert guest.notes == [Note.LOAD_FAILED]


def test_nested_state_is_svms_alone() -> None:
    rig = FakeRig()
    loaded: list[int] = []
    rig.hook.load_l2 = loaded.append  # type: ignore[attr-defined]
    with_svm, without = (with_field(EPYC, "svm", value) for value in (1, 0))
    rig.hook.models = dict.fromkeys(rig.hook.models, with_svm)
    guest_on(rig).load_nested_state(vcpu=1)
    assert loaded == [1]
    rig.hook.models = dict.fromkeys(rig.hook.models, without)
    with pytest.raises(UsageError, match="this CPU model has no SVM"):
        guest_on(rig).load_nested_state(vcpu=1)
    assert loaded == [1]


def test_a_guest_that_cannot_boot_there_is_not_let_boot() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.no_linux = "no Linux guest boots there"
    with pytest.raises(UnsupportedError, match="no Linux guest boots there"):
        guest.let_boot()
    assert guest.course is Course.RUNS_ON
