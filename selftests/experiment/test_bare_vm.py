"""What a test does to a VM without QEMU, on a stand-in for the host's program."""

import struct

import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.experiment.bare_vm import XEN_HVM, BareVm
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import Fate, VcpuAnswer
from cpuidlab.kvm.cpuid import find, get_field
from cpuidlab.kvm.hypervisor_leaves import with_hyperv, with_xen
from cpuidlab.kvm.warning import WARNING_LINES
from fakerig import FakeRig
from models import EPYC


def made(rig: FakeRig) -> BareVm:
    vm = BareVm(rig.as_rig())
    vm.make_vcpu()
    return vm


def test_a_vcpu_that_has_run_is_frozen_and_says_so() -> None:
    rig = FakeRig()
    rig.bare.changed = "EINVAL"
    vm = made(rig)
    vm.run()
    assert [vm.set_cpuid(), vm.set_cpuid("maxphyaddr=36")] == ["accepted", "EINVAL"]
    seen = vm.observe()
    assert seen.answers == (VcpuAnswer(0, "accepted"), VcpuAnswer(0, "EINVAL"))
    assert (seen.model, seen.guest, seen.fate, seen.host_log) == ("before", None, Fate(alive=True), ())


def test_what_is_accepted_is_read_back_and_what_the_host_logs_is_seen() -> None:
    rig = FakeRig()
    vm = made(rig)
    vm.run_not()
    rig.hook.host_lines += WARNING_LINES
    vm.set_cpuid("maxphyaddr=36")
    seen = vm.observe()
    assert seen.model == "asked"
    assert [record.text for record in seen.host_log] == list(WARNING_LINES)
    assert "maxphyaddr 40 -> 36" in vm.files()["models-diff.txt"]
    assert "run " in vm.files()["calls.txt"]


def test_the_model_from_before_is_that_before_the_first_call() -> None:
    vm = made(FakeRig())
    vm.set_cpuid("maxphyaddr=36")
    vm.set_cpuid(entries=257)
    assert vm.observe().model == "other"  # what the first call has left behind


def test_before_6_5_the_count_of_what_was_set_last_is_the_true_one() -> None:
    rig = FakeRig()
    rig.bare.echoes = True
    vm = made(rig)
    vm.set_cpuid(entries=257)
    assert vm.observe().model == "before"


def test_a_line_of_another_vm_is_a_failure_of_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = FakeRig()
    monkeypatch.setattr(rig, "foreign_line", lambda _: "kvm [7]: vcpu0")
    with pytest.raises(LabError, match="another VM on the host logged"):
        made(rig).observe()


def test_nothing_set_is_nothing_changed() -> None:
    assert made(FakeRig()).observe().model == "asked"


def test_an_entry_that_fails_has_a_code_segment_of_both_kinds() -> None:
    rig = FakeRig()
    made(rig).fail_entry()
    assert (rig.bare.sregs[17], rig.bare.sregs[19], len(rig.bare.sregs)) == (1, 1, 312)
    assert struct.unpack_from("<Q", rig.bare.sregs, 264) == (0x500,)


def test_a_run_that_comes_back_otherwise_is_a_failure_of_the_lab() -> None:
    rig = FakeRig()
    rig.bare.exit_reason = 8
    with pytest.raises(LabError, match="KVM_RUN came back with SHUTDOWN instead of IO"):
        made(rig).run()


@pytest.mark.parametrize(("answer", "note"), [("EEXIST", Note.ID_TAKEN), ("accepted", Note.ID_FREE)])
def test_an_id_that_is_taken(answer: str, note: Note) -> None:
    rig = FakeRig()
    rig.bare.answers = {"vcpu_again": ("accepted", answer, answer)}
    vm = made(rig)
    vm.make_vcpu_again()
    assert vm.notes == [note]


@pytest.mark.parametrize(("entries", "answer", "model"), [(256, "accepted", "asked"), (257, "E2BIG", "before")])
def test_more_entries_than_the_cpu_needs(entries: int, answer: str, model: str) -> None:
    vm = made(FakeRig())
    assert vm.set_cpuid(entries=entries) == answer
    assert vm.observe().model == model


def test_a_filled_model_is_set_from_the_start() -> None:
    vm = BareVm(FakeRig().as_rig())
    vm.fill(80)
    vm.make_vcpu()
    assert len(vm.kvm.get_model(1, 80)) == len({(entry.function, entry.index) for entry in vm.model}) == 80


@pytest.mark.parametrize("allowed", [True, False])
def test_cpuid_faulting_is_allowed_by_a_bit_in_a_leaf_that_the_cpu_reaches(allowed: bool) -> None:
    vm = BareVm(FakeRig().as_rig())
    vm.add_cpuid_faulting(allowed=allowed)
    assert get_field(vm.model, "cpuid_user_dis") == allowed
    assert (find(vm.model, 0x80000000, 0) or EPYC[0]).eax == 0x80000021


@pytest.mark.parametrize(("taken", "note"), [(True, Note.VALUE_TAKEN), (False, Note.VALUE_REFUSED)])
def test_whether_faulting_can_be_allowed_is_noted(taken: bool, note: Note) -> None:
    rig = FakeRig()
    vm = made(rig)
    rig.bare.refuses_msrs = not taken
    vm.allow_faulting()
    assert vm.notes == [note]


def test_a_model_that_is_changed_from_the_start_is_the_same_later() -> None:
    rig = FakeRig()
    rig.bare.changed = "EINVAL"
    vm = BareVm(rig.as_rig())
    vm.change("maxphyaddr=39")
    vm.make_vcpu()
    vm.run()
    assert vm.set_cpuid() == "accepted"
    with pytest.raises(UsageError, match="has that value already"):
        vm.set_cpuid("maxphyaddr=39")


def test_xen_leaves_need_a_kvm_that_knows_xen() -> None:
    rig = FakeRig()
    with pytest.raises(UsageError, match="built without Xen"):
        BareVm(rig.as_rig()).add_xen_leaves()
    rig.bare.capabilities[XEN_HVM] = 1
    vm = BareVm(rig.as_rig())
    vm.add_xen_leaves()
    assert vm.model == with_xen(EPYC)


def test_leaves_of_hypervisors() -> None:
    xen, hyperv = with_xen(EPYC), with_hyperv(EPYC)
    assert xen[: len(EPYC)] == EPYC
    assert [(entry.function, entry.index) for entry in xen[len(EPYC) :]] == [
        (0x40000100, 0), (0x40000101, 0), (0x40000103, 0), (0x40000103, 1), (0x40000103, 2),
    ]  # fmt: skip
    first, kvm = find(hyperv, 0x40000000, 0), find(hyperv, 0x40000101, 0)
    assert first and struct.pack("<3I", first.ebx, first.ecx, first.edx) == b"Microsoft Hv"
    assert kvm and kvm.eax == EPYC[0].eax
    assert [entry.function for entry in hyperv].count(0x40000001) == 1


def test_what_is_frozen_is_tried_on_other_vms() -> None:
    rig = FakeRig()
    rig.bare.answers = {"irqchip": ("accepted", "EINVAL", "EINVAL")}
    rig.user = "ann"
    vm = BareVm(rig.as_rig())
    assert vm.freeze().answers["irqchip"] == ("accepted", "EINVAL", "EINVAL")
    vm.write_down("a line")
    seen = vm.observe()  # without a vCPU of its own
    assert (seen.answers, seen.model) == ((), "asked")
    of_root = "KVM_CAP_VM_DISABLE_NX_HUGE_PAGES: not tried, needs CAP_SYS_BOOT\n"
    assert vm.files()["readings.txt"] == f"{of_root}a line\n"


def test_a_test_that_forgets_its_vcpu_is_told() -> None:
    with pytest.raises(LabError, match="made no vCPU; mend the test"):
        BareVm(FakeRig().as_rig()).run()
