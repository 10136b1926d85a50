"""A guest of the guest's own, on a stand-in for the host's program."""

import struct

import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.experiment.bare_l2 import enter_l2, note_l2
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.note import Note
from cpuidlab.kvm import uapi
from cpuidlab.kvm.cpuid import with_field
from fakerig import FakeRig


def made(*, active: bool = True) -> tuple[FakeRig, BareVm]:
    rig = FakeRig()
    rig.bare.in_guest_mode = active
    vm = BareVm(rig.as_rig())
    vm.model = with_field(vm.model, "svm", 1)
    vm.make_vcpu()
    return rig, vm


def test_l1_is_in_the_mode_that_kvm_wants_for_vmrun() -> None:
    rig, vm = made()
    enter_l2(vm)
    sregs = rig.bare.sregs
    cs, ss = (struct.unpack_from("<QIH10B", sregs, at) for at in (0, 120))  # struct kvm_segment
    assert cs == (0, 0xFFFFFFFF, 8, 0xB, 1, 0, 1, 1, 0, 1, 0, 0, 0)
    assert ss == (0, 0xFFFFFFFF, 0x10, 0x3, 1, 0, 1, 1, 0, 1, 0, 0, 0)
    control = struct.unpack_from("<5Q", sregs, 224)  # cr0, cr2, cr3, cr4, cr8
    assert control == (0x80000011, 0, 0x1000, 0x10, 0) and struct.unpack_from("<Q", sregs, 264) == (0x1000,)


def test_l1s_memory_holds_page_tables_a_vmcb_and_code() -> None:
    _, vm = made()
    enter_l2(vm)
    words = [line.split(" ") for line in vm.kvm.transcript if line.startswith("put ")]
    memory = next(data for data in (bytes.fromhex(word[2]) for word in words) if len(data) == 0x5000)
    assert memory[0x1000:0x1004] == b"\x83\0\0\0"
    assert (memory[0x3000:0x3003], memory[0x3100:0x3104]) == (bytes.fromhex("0f01d8"), bytes.fromhex("e680ebfc"))
    vmcb = memory[0x2000:0x3000]
    assert struct.unpack_from("<HHIQ", vmcb, 0x410) == (8, 0xC9B, 0xFFFFFFFF, 0)
    assert struct.unpack_from("<Q", vmcb, 0x578) == (0x3100,)


def test_registers_are_laid_out_as_in_kvm_h() -> None:
    data = uapi.regs(rax=1, rip=2, rflags=3)
    assert (len(data), data[0], data[128], data[136]) == (144, 1, 2, 3)
    assert len(uapi.nested_state_head(0)) == 128


@pytest.mark.parametrize(
    ("active", "exit_reason", "note", "figures"),
    [
        (True, 2, Note.L2_RUNS_ON, ()),
        (False, 2, Note.L2_ENDED, ("KVM_RUN came back with IO",)),
        (True, 8, Note.L2_ENDED, ("KVM_RUN came back with SHUTDOWN",)),
    ],
)
def test_whether_l2_runs_on(active: bool, exit_reason: int, note: Note, figures: tuple[str, ...]) -> None:
    rig, vm = made()
    enter_l2(vm)
    rig.bare.in_guest_mode, rig.bare.exit_reason = active, exit_reason
    note_l2(vm)
    assert (vm.notes, vm.observe().figures) == ([note], figures)


def test_l2_that_is_not_entered_is_a_failure_of_the_lab() -> None:
    with pytest.raises(LabError, match="L2 is not active"):
        enter_l2(made(active=False)[1])


def test_a_vcpu_that_takes_no_save_area_is_a_failure_of_the_lab() -> None:
    rig, vm = made()
    rig.bare.refuses_msrs = True
    with pytest.raises(LabError, match="takes no VM_HSAVE_PA"):
        enter_l2(vm)


def test_a_cpu_without_svm_has_no_l2() -> None:
    _, vm = made()
    vm.model = with_field(vm.model, "svm", 0)
    with pytest.raises(UsageError, match="no SVM"):
        enter_l2(vm)
