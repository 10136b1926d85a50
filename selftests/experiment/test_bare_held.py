"""State of a VM without a guest that a call may not change, on a stand-in for the host's program."""

import struct
from collections.abc import Callable

import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.experiment.bare_held import Held, hold_chips, hold_registers
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.note import Note
from fakebarevm import FakeBareVm
from fakerig import FakeRig

DR0, DR6, DR7 = 0x12345678, 0xFFFF0FF1, 0x401


def made(rig: FakeRig) -> BareVm:
    rig.bare.answers = dict.fromkeys(("irqchip", "pit"), ("accepted", "EINVAL", "EINVAL"))
    vm = BareVm(rig.as_rig())
    vm.add_chips()
    vm.make_vcpu()
    vm.run()
    return vm


def test_registers_are_set_to_what_they_are_not_after_a_reset() -> None:
    rig = FakeRig()
    hold_registers(made(rig))
    xcrs, debugregs = rig.bare.kept["XCRS"], rig.bare.kept["DEBUGREGS"]
    assert (len(xcrs), len(debugregs)) == (392, 128)  # of the structs in linux/kvm.h
    assert struct.unpack_from("<IIIIQ", xcrs) == (1, 0, 0, 0, 7)
    assert struct.unpack_from("<6Q", debugregs) == (DR0, 0, 0, 0, DR6, DR7)


def test_chips_are_set_to_what_they_are_not_after_a_reset() -> None:
    rig = FakeRig()
    hold_chips(made(rig))
    kept = rig.bare.kept
    assert {name: len(data) for name, data in kept.items()} == {
        "IRQCHIP 0": 520, "IRQCHIP 1": 520, "IRQCHIP 2": 520, "PIT2": 112,
    }  # fmt: skip
    assert struct.unpack_from("<Q", kept["IRQCHIP 2"], 8 + 24 + 3 * 8) == (0x10033,)
    assert [(kept[name][8 + 2], kept[name][8 + 5]) for name in ("IRQCHIP 0", "IRQCHIP 1")] == [
        (0xFF, 0x30),
        (0xFF, 0x38),
    ]
    assert struct.unpack_from("<I", kept["PIT2"], 2 * 24) == (0x1234,)


@pytest.mark.parametrize("hold", [hold_registers, hold_chips])
def test_what_stays_is_kept(hold: Callable[[BareVm], Held]) -> None:
    vm = made(FakeRig())
    held = hold(vm)
    vm.set_cpuid("maxphyaddr=36")
    held.note()
    assert (vm.notes, vm.observe().figures) == ([Note.REGISTERS_KEPT], ())


def with_bit(bare: FakeBareVm, name: str, offset: int) -> None:
    """A call flips the lowest bit of a byte."""
    data = bytearray(bare.kept[name])
    data[offset] ^= 1
    bare.kept[name] = bytes(data)


@pytest.mark.parametrize(
    ("hold", "name", "offset", "said"),
    [
        (hold_registers, "XCRS", 16, "xcr0 0x7 -> 0x6"),
        (hold_registers, "DEBUGREGS", 40, "dr7 0x401 -> 0x400"),
        (hold_registers, "DEBUGREGS", 32, "dr6 0xffff0ff1 -> 0xffff0ff0"),
        (hold_chips, "IRQCHIP 2", 56, "ioapic+0x38 0x10033 -> 0x10032"),
        (hold_chips, "IRQCHIP 1", 10, "pic.1+0x8 0x380000ff0000 -> 0x380000fe0000"),
        (hold_chips, "PIT2", 111, "pit+0x68 0x0 -> 0x100000000000000"),
    ],
)
def test_what_a_call_changes_is_named(hold: Callable[[BareVm], Held], name: str, offset: int, said: str) -> None:
    rig = FakeRig()
    vm = made(rig)
    held = hold(vm)
    rig.bare.on_set_cpuid = lambda: with_bit(rig.bare, name, offset)
    vm.set_cpuid("maxphyaddr=36")
    held.note()
    assert (vm.notes, vm.observe().figures) == ([Note.REGISTERS_CHANGED], (said,))


def test_a_cpu_without_xsave_has_no_xcr0() -> None:
    vm = made(FakeRig())
    vm.model = tuple(entry for entry in vm.model if entry.function != 0xD)
    with pytest.raises(UsageError, match="has no XSAVE"):
        hold_registers(vm)


class Forgetful(dict[str, bytes]):
    """What a KVM keeps that takes everything and keeps nothing."""

    def __setitem__(self, name: str, value: bytes) -> None:
        pass


def test_what_is_not_taken_cannot_be_watched() -> None:
    rig = FakeRig()
    vm = made(rig)
    rig.bare.kept = Forgetful()
    with pytest.raises(LabError, match="another XCR0 than"):
        hold_registers(vm)
    with pytest.raises(LabError, match="another state of the IOAPIC than"):
        hold_chips(vm)
