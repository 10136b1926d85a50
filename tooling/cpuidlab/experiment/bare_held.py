"""State of a VM without a guest that userspace has set, and that is read again after a call."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.note import Note
from cpuidlab.kvm import uapi
from cpuidlab.kvm.cpuid import find
from cpuidlab.kvm.vcpu_state import between

_XCR0_MOST = 0b111  # x87, SSE, AVX
_DR0, _DR6_B0, _DR7_L0 = 0x1234_5678, 0xFFFF0FF1, 0x401  # an enabled breakpoint that was met: SDM volume 3, 18.2
_CHIPS = ("pic.0", "pic.1", "ioapic")  # by chip_id
_ENTRY_OF_PIN_3, _MASKED_VECTOR = uapi.IRQCHIP_AT["redirtbl"] + 3 * 8, 0x10033


@dataclass(frozen=True)
class Part:
    """A part of the state of a VM or vCPU: the descriptor, the ioctl that reads it, what that is given, its bytes."""

    fd: int
    name: str
    given: bytes
    size: int


class Held:
    """Parts of a state as they were when this was made."""

    def __init__(self, vm: BareVm, parts: Mapping[str, Part]) -> None:
        """Read them."""
        self._vm = vm
        self._parts = parts
        self.state = self._read()

    def note(self) -> None:
        """Note whether the registers are as they were."""
        now = self._read()
        changed = [f"{one}" for part in now for one in between(0, part, self.state[part], now[part])]
        self._vm.note(Note.REGISTERS_CHANGED if changed else Note.REGISTERS_KEPT, *changed)

    def _read(self) -> dict[str, bytes]:
        kvm = self._vm.kvm
        return {name: kvm.read(part.fd, part.name, part.given, part.size).data for name, part in self._parts.items()}


def hold_registers(vm: BareVm) -> Held:
    """Set XCR0 and the debug registers of the vCPU to what they are not after a reset.

    Under TCG a nested guest sets XCR0 without an exit, so that KVM's copy of it is never more than 1, and with an
    enabled breakpoint a guest does not survive QEMU 7.2. This vCPU does not run with them. Raises UsageError on a CPU
    without XSAVE, LabError where KVM does not take them.
    """
    xsave = find(vm.model, 0xD, 0)
    if xsave is None or xsave.eax & _XCR0_MOST <= 1:
        raise UsageError("this CPU model has no XSAVE, and so no XCR0")
    xcrs = uapi.xcrs(xsave.eax & _XCR0_MOST)
    _ = vm.kvm.ioctl(vm.vcpu, "KVM_SET_XCRS", xcrs).value
    _ = vm.kvm.ioctl(vm.vcpu, "KVM_SET_DEBUGREGS", uapi.debugregs((_DR0, 0, 0, 0), _DR6_B0, _DR7_L0)).value
    held = Held(
        vm,
        {
            "xcrs": Part(vm.vcpu, "KVM_GET_XCRS", b"", uapi.XCRS_BYTES),
            "debugregs": Part(vm.vcpu, "KVM_GET_DEBUGREGS", b"", uapi.DEBUGREGS_BYTES),
        },
    )
    if held.state["xcrs"] != xcrs:
        raise LabError("KVM took another XCR0 than it was given", held.state["xcrs"].hex())
    return held


def hold_chips(vm: BareVm) -> Held:
    """Give a pin of the IOAPIC, each PIC and a channel of the PIT values that they do not have after a reset.

    The VM needs `add_chips`. No interrupt comes of it: the pin and the PICs' lines are masked, the channel is not
    started.
    """
    parts = {
        name: Part(vm.vm, "KVM_GET_IRQCHIP", uapi.irqchip(number), uapi.IRQCHIP_BYTES)
        for number, name in enumerate(_CHIPS)
    } | {"pit": Part(vm.vm, "KVM_GET_PIT2", b"", uapi.PIT_BYTES)}
    state = {name: bytearray(data) for name, data in Held(vm, parts).state.items()}
    struct.pack_into("<Q", state["ioapic"], _ENTRY_OF_PIN_3, _MASKED_VECTOR)
    for number, name in enumerate(("pic.0", "pic.1")):
        state[name][uapi.IRQCHIP_AT["imr"]] = 0xFF
        state[name][uapi.IRQCHIP_AT["irq_base"]] = 0x30 + 8 * number
    struct.pack_into("<I", state["pit"], uapi.PIT_COUNT_2, 0x1234)
    for name in _CHIPS:
        _ = vm.kvm.ioctl(vm.vm, "KVM_SET_IRQCHIP", bytes(state[name])).value
    _ = vm.kvm.ioctl(vm.vm, "KVM_SET_PIT2", bytes(state["pit"])).value
    held = Held(vm, parts)
    if held.state["ioapic"] != state["ioapic"]:
        raise LabError("KVM took another state of the IOAPIC than it was given", held.state["ioapic"].hex())
    return held
