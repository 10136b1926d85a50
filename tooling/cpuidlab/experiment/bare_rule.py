"""Which CPUID is in force inside KVM: by it some values of control registers are taken, and others refused."""

import struct
from collections.abc import Mapping
from enum import Enum

from cpuidlab.base.errors import LabError
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.note import Note
from cpuidlab.kvm import uapi

_LONG_MODE = {"cr0": 0x80000011, "cr4": 0x20, "efer": 0x500}  # PG, ET, PE; PAE; LMA, LME


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
