"""What <linux/kvm.h> says: numbers of ioctls and capabilities, and the structures that they take, as bytes."""

import struct
from collections.abc import Mapping, Sequence

from cpuidlab.kvm.cpuid import Entry, Model

REQUESTS: Mapping[str, int] = {
    "KVM_CHECK_EXTENSION": 0xAE03,
    "KVM_CREATE_IRQCHIP": 0xAE60,
    "KVM_CREATE_PIT2": 0x4040AE77,
    "KVM_CREATE_VCPU": 0xAE41,
    "KVM_CREATE_VM": 0xAE01,
    "KVM_ENABLE_CAP": 0x4068AEA3,
    "KVM_GET_CPUID2": 0xC008AE91,
    "KVM_GET_DEBUGREGS": 0x8080AEA1,
    "KVM_GET_IRQCHIP": 0xC208AE62,
    "KVM_GET_LAPIC": 0x8400AE8E,
    "KVM_GET_MSRS": 0xC008AE88,
    "KVM_GET_MSR_FEATURE_INDEX_LIST": 0xC004AE0A,
    "KVM_GET_NESTED_STATE": 0xC080AEBE,
    "KVM_GET_PIT2": 0x8070AE9F,
    "KVM_GET_REGS": 0x8090AE81,
    "KVM_GET_SREGS": 0x8138AE83,
    "KVM_GET_SUPPORTED_CPUID": 0xC008AE05,
    "KVM_GET_TSC_KHZ": 0xAEA3,
    "KVM_GET_XCRS": 0x8188AEA6,
    "KVM_SET_BOOT_CPU_ID": 0xAE78,
    "KVM_SET_CLOCK": 0x4030AE7B,
    "KVM_SET_CPUID": 0x4008AE8A,
    "KVM_SET_CPUID2": 0x4008AE90,
    "KVM_SET_DEBUGREGS": 0x4080AEA2,
    "KVM_SET_GSI_ROUTING": 0x4008AE6A,
    "KVM_SET_IDENTITY_MAP_ADDR": 0x4008AE48,
    "KVM_SET_IRQCHIP": 0x8208AE63,
    "KVM_SET_LAPIC": 0x4400AE8F,
    "KVM_SET_MSRS": 0x4008AE89,
    "KVM_SET_NESTED_STATE": 0x4080AEBF,
    "KVM_SET_NR_MMU_PAGES": 0xAE44,
    "KVM_SET_PIT2": 0x4070AEA0,
    "KVM_SET_PMU_EVENT_FILTER": 0x4020AEB2,
    "KVM_SET_REGS": 0x4090AE82,
    "KVM_SET_SREGS": 0x4138AE84,
    "KVM_SET_TSC_KHZ": 0xAEA2,
    "KVM_SET_TSS_ADDR": 0xAE47,
    "KVM_SET_USER_MEMORY_REGION": 0x4020AE46,
    "KVM_SET_XCRS": 0x4188AEA7,
    "KVM_X86_SETUP_MCE": 0x4008AE9C,
    "KVM_X86_SET_MSR_FILTER": 0x4188AEC6,
    "KVM_XEN_HVM_CONFIG": 0x4038AE7A,
}

MAX_ENTRIES = 256  # KVM_MAX_CPUID_ENTRIES, and no earlier kernel takes more
_ENTRY = struct.Struct("<10I")  # struct kvm_cpuid_entry2
_MSR = struct.Struct("<IIQ")  # struct kvm_msr_entry
_HEAD = struct.Struct("<II")  # of struct kvm_cpuid2 and struct kvm_msrs: how many, and padding
MODEL_BYTES = _HEAD.size + MAX_ENTRIES * _ENTRY.size


def enable_cap(cap: int, args: Sequence[int] = ()) -> bytes:
    """Return a struct kvm_enable_cap."""
    return struct.pack("<II4Q64x", cap, 0, *args, *(0,) * (4 - len(args)))


def cpuid2(model: Model, nent: int | None = None) -> bytes:
    """Return a struct kvm_cpuid2; with `nent` that is the count, whatever the model has."""
    head = _HEAD.pack(len(model) if nent is None else nent, 0)
    return head + b"".join(_ENTRY.pack(*_words(entry)) for entry in model)


def _words(entry: Entry) -> tuple[int, ...]:
    return (entry.function, entry.index, entry.flags, entry.eax, entry.ebx, entry.ecx, entry.edx, *entry.padding)


def count_of(data: bytes) -> int:
    """Return how many entries a struct kvm_cpuid2 or kvm_msrs says that it has."""
    return int(_HEAD.unpack_from(data)[0])


def model_of(data: bytes, own: int = MAX_ENTRIES) -> Model:
    """Read a struct kvm_cpuid2 that KVM has filled.

    Before Linux 6.5 KVM_GET_CPUID2 leaves the caller's count in it: then `own`, the count that was set, is true.
    """
    count = count_of(data)
    return tuple(_entry(*_ENTRY.unpack_from(data, _HEAD.size + at * _ENTRY.size)) for at in range(min(count, own)))


def _entry(*words: int) -> Entry:
    function, index, flags, eax, ebx, ecx, edx, *padding = words
    return Entry(function, index, flags, eax, ebx, ecx, edx, (padding[0], padding[1], padding[2]))


def msrs(values: Mapping[int, int]) -> bytes:
    """Return a struct kvm_msrs."""
    return _HEAD.pack(len(values), 0) + b"".join(_MSR.pack(index, 0, value) for index, value in values.items())


def msr_values(data: bytes) -> dict[int, int]:
    """Read a struct kvm_msrs."""
    count = count_of(data)
    found = [_MSR.unpack_from(data, _HEAD.size + at * _MSR.size) for at in range(count)]
    return {int(index): int(value) for index, _, value in found}


def memory_region(slot: int, address: int, size: int) -> bytes:
    """Return a struct kvm_userspace_memory_region whose userspace_addr, at REGION_POINTER, is still to be filled."""
    return struct.pack("<IIQQQ", slot, 0, address, size, 0)


REGION_POINTER = 24
SREGS_BYTES, SREGS_EFER = 312, 264  # of struct kvm_sregs
SREGS_AT = {"cr0": 224, "cr3": 240, "cr4": 248, "efer": SREGS_EFER}  # offsets in it, each of 8 bytes
_FLAT = (1, 0, 1, 1, 0, 1)  # of struct kvm_segment: present, dpl, db, s, l, g
_SEGMENTS_AT = {"cs": 0, "ds": 24, "es": 48, "ss": 120}  # of struct kvm_segment in it
XCRS_BYTES, DEBUGREGS_BYTES = 392, 128  # of struct kvm_xcrs and struct kvm_debugregs
IRQCHIP_BYTES, PIT_BYTES = 520, 112  # of struct kvm_irqchip and struct kvm_pit_state2
IRQCHIP_AT = {"imr": 10, "irq_base": 13, "redirtbl": 32}  # offsets: two bytes of a PIC; the IOAPIC's, 8 bytes a pin
PIT_COUNT_2 = 48  # offset of the count of channel 2, of 4 bytes
EFER_SVME = 1 << 12
_NESTED_HEAD = 128  # bytes of struct kvm_nested_state before its data
NESTED_BYTES, NESTED_GUEST_MODE = _NESTED_HEAD + 0x1000, 1  # with SVM's data; KVM_STATE_NESTED_GUEST_MODE


def xcrs(xcr0: int) -> bytes:
    """Return a struct kvm_xcrs with XCR0 alone."""
    return struct.pack("<IIIIQ368x", 1, 0, 0, 0, xcr0)


def debugregs(addresses: Sequence[int], dr6: int, dr7: int) -> bytes:
    """Return a struct kvm_debugregs; `addresses` are those of DR0 to DR3."""
    return struct.pack("<4Q3Q72x", *addresses, dr6, dr7, 0)


def irqchip(number: int) -> bytes:
    """Return a struct kvm_irqchip that asks for a chip: 0 and 1 are the PICs, 2 is the IOAPIC."""
    return struct.pack("<II512x", number, 0)


def regs(*, rax: int, rip: int, rflags: int) -> bytes:
    """Return a struct kvm_regs; the registers that are not named are 0."""
    return struct.pack("<Q120xQQ", rax, rip, rflags)


def put_flat_segment(sregs: bytearray, name: str, selector: int, kind: int) -> None:
    """Write a segment of 32 bits, privilege 0 and 4 GiB from 0 on into a struct kvm_sregs."""
    struct.pack_into("<QIH7B3x", sregs, _SEGMENTS_AT[name], 0, 0xFFFFFFFF, selector, kind, *_FLAT)


def nested_state_head(size: int) -> bytes:
    """Return the struct kvm_nested_state that asks for a state of at most `size` bytes."""
    return struct.pack("<HHI120x", 0, 0, size)


def svm_nested_state() -> bytes:
    """Return the struct kvm_nested_state of a vCPU that was saved while it ran an L2 guest (APM volume 2, appendix B).

    The same as in tooling/hook/nested.c.
    """
    vmcb = bytearray(0x1000)
    for offset, value in ((0x010, 1), (0x058, 1), (0x4D0, EFER_SVME), (0x558, 0x80000001)):  # VMRUN, ASID, EFER, CR0
        struct.pack_into("<I", vmcb, offset, value)
    guest_mode, gif, svm_format = 1, 0x100, 1
    head = struct.pack("<HHIQ112x", guest_mode | gif, svm_format, 128 + len(vmcb), 0x1000)
    return head + vmcb
