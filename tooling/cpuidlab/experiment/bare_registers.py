"""The registers of a vCPU without a guest: values that no guest here gives them, and those that its CPUID forbids."""

import struct
from collections.abc import Mapping
from enum import Enum

from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.note import Note
from cpuidlab.kvm import uapi
from cpuidlab.kvm.cpuid import find
from cpuidlab.kvm.vcpu_state import between

_PARTS = {"xcrs": ("KVM_GET_XCRS", uapi.XCRS_BYTES), "debugregs": ("KVM_GET_DEBUGREGS", uapi.DEBUGREGS_BYTES)}
_XCR0_MOST = 0b111  # x87, SSE, AVX
_DR0, _DR6_B0, _DR7_L0 = 0x1234_5678, 0xFFFF0FF1, 0x401  # an enabled breakpoint that was met: SDM volume 3, 18.2
_LONG_MODE = {"cr0": 0x80000011, "cr4": 0x20, "efer": 0x500}  # PG, ET, PE; PAE; LMA, LME


class HeldRegisters:
    """XCR0 and the debug registers of a vCPU, set by userspace to what they are not after a reset.

    Under TCG a nested guest sets XCR0 without an exit, so that KVM's copy of it is never more than 1. A guest with an
    enabled breakpoint does not survive QEMU 7.2. This vCPU does not run with them.
    """

    def __init__(self, vm: BareVm) -> None:
        """Set them. Raises UsageError on a CPU without XSAVE, LabError where KVM does not take them."""
        self._vm = vm
        xsave = find(vm.model, 0xD, 0)
        if xsave is None or not xsave.eax & _XCR0_MOST:
            raise UsageError("this CPU model has no XSAVE, and so no XCR0")
        wanted = {
            "KVM_SET_XCRS": uapi.xcrs(xsave.eax & _XCR0_MOST),
            "KVM_SET_DEBUGREGS": uapi.debugregs((_DR0, 0, 0, 0), _DR6_B0, _DR7_L0),
        }
        for name, value in wanted.items():
            _ = vm.kvm.ioctl(vm.vcpu, name, value).value
        self._held = self._read()
        if wanted["KVM_SET_XCRS"] != self._held["xcrs"]:
            raise LabError("KVM took another XCR0 than it was given", self._held["xcrs"].hex())

    def note(self) -> None:
        """Note whether they are as they were set."""
        now = self._read()
        changed = [f"{one}" for part in now for one in between(0, part, self._held[part], now[part])]
        self._vm.note(Note.REGISTERS_CHANGED if changed else Note.REGISTERS_KEPT, *changed)

    def _read(self) -> dict[str, bytes]:
        vm = self._vm
        return {part: vm.kvm.read(vm.vcpu, name, b"", size).data for part, (name, size) in _PARTS.items()}


class Rule(Enum):
    """Values of control registers that KVM_SET_SREGS takes by one CPUID and refuses by another.

    KVM goes by what it has computed from the CPUID, and no ioctl reads that back (kvm_is_valid_sregs, __set_sregs).
    """

    CR4_SMEP = "CR4.SMEP", {"cr4": 1 << 20}
    CR3_BIT_38 = "bit 38 of CR3 in long mode", _LONG_MODE | {"cr3": 1 << 38}

    def __init__(self, words: str, values: Mapping[str, int]) -> None:
        """Take what to call them, and the bits that they add to the vCPU's registers."""
        self.words = words
        self.values = values

    def begin(self, vm: BareVm) -> None:
        """Make sure that KVM takes them by the vCPU's first CPUID. Raises LabError where it does not."""
        if not self._taken(vm):
            raise LabError(f"KVM refuses {self.words} by the first CPUID already, so that a change shows nothing")

    def note(self, vm: BareVm) -> None:
        """Note by which CPUID KVM goes now: it takes them by the old one, and refuses them by the new one."""
        taken = self._taken(vm)
        said = f"KVM_SET_SREGS with {self.words} is {'accepted' if taken else 'EINVAL'}"
        vm.note(Note.GOES_BY_OLD if taken else Note.GOES_BY_NEW, said)

    def _taken(self, vm: BareVm) -> bool:
        """Try them, and put the registers back. Raises LabError where that is answered by another errno."""
        before = vm.kvm.read(vm.vcpu, "KVM_GET_SREGS", b"", uapi.SREGS_BYTES).data
        answer = vm.kvm.ioctl(vm.vcpu, "KVM_SET_SREGS", _with(before, self.values)).word
        _ = vm.kvm.ioctl(vm.vcpu, "KVM_SET_SREGS", before).value
        if answer not in ("accepted", "EINVAL"):
            raise LabError(f"KVM_SET_SREGS was answered {answer}")
        return answer == "accepted"


def _with(sregs: bytes, values: Mapping[str, int]) -> bytes:
    """A struct kvm_sregs with these bits set as well."""
    state = bytearray(sregs)
    for name, value in values.items():
        (old,) = struct.unpack_from("<Q", state, uapi.SREGS_AT[name])
        struct.pack_into("<Q", state, uapi.SREGS_AT[name], old | value)
    return bytes(state)
