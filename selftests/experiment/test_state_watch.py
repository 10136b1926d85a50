"""What a test keeps of the state of the vCPUs: which calls touched it, what they were to alter, and the evidence."""

import pytest
from cpuidlab.kvm.vcpu_state import Difference
from fakerig import FakeRig, guest_on

DR7 = Difference(0, "debugregs", "dr7", "0x400", "0x0")
TSC = Difference(0, "msr", "0x10", "0x1", "0x2")
ARRIVED = Difference(0, "lapic", "IRR1", "0x1", "0x3")


def rig(*touches: Difference, errno: int = 0) -> FakeRig:
    rig = FakeRig()
    rig.hook.touches, rig.hook.errno = touches, errno
    return rig


def test_what_moves_by_itself_touches_nothing() -> None:
    guest = guest_on(rig(TSC))
    guest.set_cpuid()
    assert guest.state.touched == []
    assert guest.state.files()["vcpu-state-diff.txt"].startswith(
        "vCPU 0, KVM_SET_CPUID2, what was there: accepted\n    vCPU 0: MSR 0x10 IA32_TSC 0x1 -> 0x2\nvCPU 1,"
    )


def test_an_interrupt_may_arrive_during_a_live_call_alone() -> None:
    guest = guest_on(rig(ARRIVED))
    guest.set_cpuid(vcpus=[0], live=True)
    assert guest.state.touched == []
    guest.set_cpuid(vcpus=[0])
    assert guest.state.touched[0].differences == (ARRIVED,)


def test_a_refused_call_is_told_with_what_it_asked_for() -> None:
    guest = guest_on(rig(TSC, DR7, errno=22))
    guest.set_cpuid("nx=off", vcpus=[0])
    guest.set_bad_pointer("pcid=off", vcpu=1, call=1)
    guest.set_bad_entries("pcid=off", vcpu=1, call=2)
    told = [(call.vcpu, call.call, call.answer, call.change, call.differences) for call in guest.state.touched]
    assert told == [
        (0, 2, "EINVAL", "nx=off", (DR7,)),
        (1, 1, "EFAULT", "pcid=off,old_ioctl", (DR7,)),
        (1, 2, "EFAULT", "pcid=off", (DR7,)),
    ]
    assert not any(call.may_alter for call in guest.state.touched)


def test_an_accepted_call_alters_what_it_changes_and_takes_back() -> None:
    guest = guest_on(rig(DR7))
    for change, call in (("", 2), ("nx=off", 2), ("nx=off", 2), ("pcid=off", 2), ("", 1), ("", 2), ("", 2)):
        guest.set_cpuid(change, vcpus=[0], call=call)  # type: ignore[arg-type]
    told = [call.change for call in guest.state.touched]
    assert told == ["", "nx=off", "", "nx=off,pcid=off", "pcid=off,old_ioctl", "old_ioctl", ""]
    assert [call.may_alter for call in guest.state.touched] == [bool(change) for change in told]


def test_the_whole_state_is_that_around_the_first_call_that_touched_something() -> None:
    fake = rig(TSC)
    guest = guest_on(fake)
    guest.set_cpuid(vcpus=[0])
    fake.hook.touches = (DR7,)
    guest.set_cpuid(vcpus=[1])
    guest.set_cpuid(vcpus=[1])
    guest.state.read(guest.rig.hook)
    assert guest.state.files()["vcpu-state-after.txt"] == (
        "vCPU 0\nthe state of vCPU 0 after set 2\n\nvCPU 1\nthe state of vCPU 1 after set 2\n"
    )


@pytest.mark.parametrize("by", ["hook", "qemu"])
def test_what_qemu_sets_on_a_vcpu_that_has_run_is_watched_as_well(by: str) -> None:
    fake = rig()
    guest = guest_on(fake)
    report = "w,1,mp_state+events+regs+sregs+xcrs+xsave+debugregs+msr,4,1,2,1 d,1,debugregs,40,400,0"
    fake.hook.events += [f"1.000000000 state what={line}\n" for line in report.split()]
    fake.hook.events.append(f"1.000000000 set_cpuid2 by={by} vcpu=1 nent=3 ret=-1 errno=22\n")
    guest.take_answers_to_qemu()
    told = [(call.vcpu, call.change, [str(one) for one in call.differences]) for call in guest.state.touched]
    assert told == ([(1, "replug", ["dr7 0x400 -> 0x0"])] if by == "qemu" else [])
