"""A guest's state that is taken over by vCPUs of another model, on a rig that only writes down what is asked of it."""

from typing import Any

import pytest
from cpuidlab.base.errors import LabError, LostVMError, UnsupportedError
from cpuidlab.experiment import takeover
from cpuidlab.experiment.facts import GuestState, facts_of
from cpuidlab.experiment.guest import Course
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observe import observed
from cpuidlab.experiment.takeover import take_over
from cpuidlab.judge.discrepancies import Discrepancies, compare
from cpuidlab.judge.eras import era
from cpuidlab.judge.expectations import taken_over_without_registers
from cpuidlab.kvm.changes import parse
from cpuidlab.kvm.cpuid import Model
from cpuidlab.kvm.hook_answers import Where
from cpuidlab.rig.guest_config import Profile
from fakerig import FakeRig, guest_on
from models import EPYC

ENDED = LostVMError("the guest's QEMU ended at once: phys-bits too low")
IDLE, RESET = Where(0xFFFFFFFF81000000, 0, runs=False), Where(0xFFF0, 0, runs=True)


class Qemus:
    """Stands for guest_state: the QEMU that loads makes vCPUs of `model`, or ends as `dies` says."""

    def __init__(self, rig: FakeRig, model: Model = EPYC, dies: Exception | None = None) -> None:
        self.rig, self.model, self.dies = rig, model, dies
        self.sets, self.refuses_sregs = True, False
        self.loaded: list[Profile] = []

    def save(self, _: object, file: str) -> None:
        self.rig.log.append(f"save {file}")

    def end_qemu(self, _: object) -> None:
        self.rig.log.append("end")

    def load(self, _: object, profile: Profile, file: str) -> None:
        self.rig.log.append(f"load {file}")
        self.loaded.append(profile)
        for vcpu in self.rig.hook.models if self.sets else ():
            self.rig.hook.answered(vcpu, self.model, self.rig.hook.errno, by="qemu")
        if self.refuses_sregs:
            self.rig.hook.events.append("1.500000000 sregs_refused vcpu=1 errno=22\n")
        if self.dies:
            raise self.dies


@pytest.fixture
def rig() -> FakeRig:
    return FakeRig()


def qemus(monkeypatch: pytest.MonkeyPatch, rig: FakeRig, **words: Any) -> Qemus:
    fake = Qemus(rig, **words)
    monkeypatch.setattr(takeover, "guest_state", fake)
    return fake


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("", ""),
        ("maxphyaddr=36", ",host-phys-bits=off,phys-bits=36"),
        ("gbpages=off", ",pdpe1gb=off"),
        ("nx=off,gbpages=off", ",nx=off,pdpe1gb=off"),
    ],
)
def test_another_qemu_has_the_changed_model(
    monkeypatch: pytest.MonkeyPatch, rig: FakeRig, change: str, words: str
) -> None:
    model = parse(change).apply(EPYC) if change else EPYC
    fake, guest = qemus(monkeypatch, rig, model=model), guest_on(rig)
    take_over(guest, change)
    assert rig.log == ["save /run/guest.state", "end", "load /run/guest.state"]
    assert [profile.cpu for profile in fake.loaded] == [f"host,host-phys-bits=on{words}"]
    assert [answer.answer for answer in guest.answers] == ["accepted"] * 2
    assert guest.before == dict.fromkeys(guest.vcpus, EPYC) and guest.asked == dict.fromkeys(guest.vcpus, model)
    assert guest.restarted == set(guest.vcpus)
    assert guest.notes == [Note.REGISTERS_TAKEN] and guest.course is Course.RUNS_ON


def test_a_qemu_that_lowers_guest_physaddr_size_too(monkeypatch: pytest.MonkeyPatch, rig: FakeRig) -> None:
    rig.hook.models = dict.fromkeys(rig.hook.models, parse("guest_maxphyaddr=40").apply(EPYC))
    fake = qemus(monkeypatch, rig, model=parse("maxphyaddr=36,guest_maxphyaddr=36").apply(EPYC))
    guest = guest_on(rig)
    take_over(guest, "maxphyaddr=36")
    assert fake.loaded[0].cpu.endswith(",phys-bits=36") and guest.models() == guest.asked


def test_a_guest_whose_registers_are_refused_is_not_let_run(monkeypatch: pytest.MonkeyPatch, rig: FakeRig) -> None:
    rig.hook.looks = {1: [IDLE, RESET]}
    qemus(monkeypatch, rig).refuses_sregs = True
    guest = guest_on(rig)
    take_over(guest)
    assert guest.notes == [Note.REGISTERS_REFUSED] and guest.course is Course.STAYS_STOPPED


def test_a_qemu_that_ends_of_refused_registers_tells_the_same(monkeypatch: pytest.MonkeyPatch, rig: FakeRig) -> None:
    qemus(monkeypatch, rig, dies=ENDED).refuses_sregs = True
    guest = guest_on(rig)
    take_over(guest)
    rig.end_qemu(1, "Putting registers after init: Failed to set special registers: Invalid argument")
    observation = observed(guest)
    assert compare(taken_over_without_registers(era("silent")), observation) == Discrepancies()
    assert facts_of(observation).guest is GuestState.UNSEEN and facts_of(observation).notes == (Note.REGISTERS_REFUSED,)


@pytest.mark.parametrize("refused", [False, True])
def test_registers_and_log_that_do_not_agree(monkeypatch: pytest.MonkeyPatch, rig: FakeRig, refused: bool) -> None:
    rig.hook.looks = {1: [IDLE, IDLE if refused else RESET]}
    qemus(monkeypatch, rig).refuses_sregs = refused
    with pytest.raises(LabError, match=f"by the hook's log KVM {'' if refused else 'never '}refused the registers"):
        take_over(guest_on(rig))


def test_a_model_that_differs_in_more_is_the_labs_failure(monkeypatch: pytest.MonkeyPatch, rig: FakeRig) -> None:
    qemus(monkeypatch, rig, model=parse("gbpages=off,nx=off").apply(EPYC))
    with pytest.raises(LabError, match="vCPU 0 otherwise than with gbpages=off"):
        take_over(guest_on(rig), "gbpages=off")


def test_a_runtime_bit_may_differ(monkeypatch: pytest.MonkeyPatch, rig: FakeRig) -> None:
    qemus(monkeypatch, rig, model=parse("0x1.ecx^0x8000000").apply(EPYC))  # OSXSAVE
    take_over(guest_on(rig))


def test_where_kvm_refuses_the_model_the_judge_hears_it(monkeypatch: pytest.MonkeyPatch, rig: FakeRig) -> None:
    rig.hook.errno = 22
    qemus(monkeypatch, rig, dies=ENDED)
    guest = guest_on(rig)
    take_over(guest)
    assert [answer.answer for answer in guest.answers] == ["EINVAL"] * 2 and not guest.notes


def test_where_qemu_makes_no_such_vcpu_nothing_can_be_tested(monkeypatch: pytest.MonkeyPatch, rig: FakeRig) -> None:
    qemus(monkeypatch, rig, dies=ENDED).sets = False
    with pytest.raises(UnsupportedError, match=r"host,host-phys-bits=on,smep=off.*phys-bits too low"):
        take_over(guest_on(rig), "smep=off")


@pytest.mark.parametrize("host_lost", [False, True])
def test_where_qemu_ends_of_the_state_nothing_is_said_of_kvm(
    monkeypatch: pytest.MonkeyPatch, rig: FakeRig, host_lost: bool
) -> None:
    qemus(monkeypatch, rig, dies=ENDED)
    guest = guest_on(rig)
    rig.host_lost = host_lost
    with pytest.raises(LostVMError, match="the host is gone" if host_lost else "ended at once"):
        take_over(guest)


def test_a_guest_of_an_unknown_profile(monkeypatch: pytest.MonkeyPatch, rig: FakeRig) -> None:
    qemus(monkeypatch, rig)
    rig.profile = None
    with pytest.raises(LabError, match="nobody knows with which CPU model"):
        take_over(guest_on(rig))
