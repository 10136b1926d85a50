"""Registers of a vCPU without a guest, on a stand-in for the host's program."""

import struct

import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.experiment.bare_registers import HeldRegisters, Rule
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.note import Note
from cpuidlab.kvm import uapi
from fakerig import FakeRig

CR4_SMEP, CR3_BIT_38 = {"cr4": 1 << 20}, {"cr3": 1 << 38}


def made(rig: FakeRig) -> BareVm:
    vm = BareVm(rig.as_rig())
    vm.make_vcpu()
    vm.run()
    return vm


def test_registers_are_set_to_what_they_are_not_after_a_reset() -> None:
    rig = FakeRig()
    HeldRegisters(made(rig))
    xcrs, debugregs = rig.bare.registers["XCRS"], rig.bare.registers["DEBUGREGS"]
    assert (len(xcrs), len(debugregs)) == (392, 128)  # of the structs in linux/kvm.h
    assert struct.unpack_from("<IIIIQ", xcrs) == (1, 0, 0, 0, 7)
    assert struct.unpack_from("<6Q", debugregs) == (0x12345678, 0, 0, 0, 0xFFFF0FF1, 0x401)


def test_registers_that_stay_are_kept() -> None:
    vm = made(FakeRig())
    registers = HeldRegisters(vm)
    vm.set_cpuid("maxphyaddr=36")
    registers.note()
    assert (vm.notes, vm.observe().figures) == ([Note.REGISTERS_KEPT], ())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("XCRS", uapi.xcrs(1), "xcr0 0x7 -> 0x1"),
        ("DEBUGREGS", uapi.debugregs((0x12345678, 0, 0, 0), 0xFFFF0FF1, 0x400), "dr7 0x401 -> 0x400"),
        ("DEBUGREGS", uapi.debugregs((0x12345678, 0, 0, 0), 0xFFFF0FF0, 0x401), "dr6 0xffff0ff1 -> 0xffff0ff0"),
    ],
)
def test_a_register_that_a_call_changes_is_named(name: str, value: bytes, said: str) -> None:
    rig = FakeRig()
    vm = made(rig)
    registers = HeldRegisters(vm)
    rig.bare.on_set_cpuid = lambda: rig.bare.registers.update({name: value})
    vm.set_cpuid("maxphyaddr=36")
    registers.note()
    assert (vm.notes, vm.observe().figures) == ([Note.REGISTERS_CHANGED], (said,))


def test_a_cpu_without_xsave_has_no_xcr0() -> None:
    vm = BareVm(FakeRig().as_rig())
    vm.model = tuple(entry for entry in vm.model if entry.function != 0xD)
    vm.make_vcpu()
    with pytest.raises(UsageError, match="has no XSAVE"):
        HeldRegisters(vm)


def test_an_xcr0_that_is_not_taken_cannot_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    vm = made(FakeRig())
    monkeypatch.setattr(uapi, "xcrs", lambda _: bytes(uapi.XCRS_BYTES - 8))  # the host tells eight bytes more
    with pytest.raises(LabError, match="took another XCR0"):
        HeldRegisters(vm)


@pytest.mark.parametrize(
    ("rule", "bits", "change"), [(Rule.CR4_SMEP, CR4_SMEP, "smep=off"), (Rule.CR3_BIT_38, CR3_BIT_38, "maxphyaddr=36")]
)
@pytest.mark.parametrize("new", [True, False])
def test_by_which_cpuid_kvm_goes(rule: Rule, bits: dict[str, int], change: str, new: bool) -> None:
    rig = FakeRig()
    vm = made(rig)
    rule.begin(vm)
    assert not any(rig.bare.sregs)  # put back
    rig.bare.on_set_cpuid = lambda: rig.bare.reserved.update(bits if new else {})
    vm.set_cpuid(change)
    rule.note(vm)
    said = f"KVM_SET_SREGS with {rule.words} is {'EINVAL' if new else 'accepted'}"
    assert vm.notes == [Note.GOES_BY_NEW if new else Note.GOES_BY_OLD]
    assert vm.observe().figures == (said,)


def test_a_register_that_is_refused_from_the_start_shows_nothing() -> None:
    rig = FakeRig()
    vm = made(rig)
    rig.bare.reserved = CR4_SMEP
    with pytest.raises(LabError, match=r"refuses CR4\.SMEP by the first CPUID already"):
        Rule.CR4_SMEP.begin(vm)


def test_long_mode_is_entered_for_cr3_alone() -> None:
    rig = FakeRig()
    vm = made(rig)
    rig.bare.reserved = {"efer": 0x500}
    Rule.CR4_SMEP.begin(vm)
    with pytest.raises(LabError, match="refuses bit 38 of CR3"):
        Rule.CR3_BIT_38.begin(vm)
