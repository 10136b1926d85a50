"""CPUID leaves of hypervisors beside KVM's own, as a VMM gives them to a guest that expects Hyper-V or Xen."""

import struct
from dataclasses import replace

from cpuidlab.kvm.cpuid import SIGNIFICANT_INDEX, Entry, Model

KVM_BASE, SECOND_BASE = 0x40000000, 0x40000100
_STEP = SECOND_BASE - KVM_BASE


def _signature(base: int, last: int, text: bytes) -> Entry:
    ebx, ecx, edx = struct.unpack("<3I", text)
    return Entry(base, 0, 0, base + last, ebx, ecx, edx)


def with_xen(model: Model) -> Model:
    """Return the model with Xen's leaves behind KVM's own, the three subleaves of its TSC leaf among them."""
    base = SECOND_BASE
    tsc = (Entry(base + 3, at, SIGNIFICANT_INDEX, 0, 0, 0, 0) for at in range(3))
    return (*model, _signature(base, 4, b"XenVMMXenVMM"), Entry(base + 1, 0, 0, 0x4000D, 0, 0, 0), *tsc)


def with_hyperv(model: Model) -> Model:
    """Return the model with Hyper-V's leaves in front, and KVM's own moved behind them, as QEMU's hv-* flags do."""
    moved = (_moved(entry) if entry.function >> 8 == KVM_BASE >> 8 else entry for entry in model)
    hyperv = (
        _signature(KVM_BASE, 5, b"Microsoft Hv"),
        Entry(KVM_BASE + 1, 0, 0, 0x31237648, 0, 0, 0),  # Hv#1
        Entry(KVM_BASE + 3, 0, 0, 0x60, 0, 0, 0),  # hypercall MSRs, VP index
    )
    return (*moved, *hyperv)


def _moved(entry: Entry) -> Entry:
    """The same leaf of KVM's behind those of another hypervisor; the first one also tells which is the last."""
    is_first = entry.function == KVM_BASE
    return replace(
        entry, function=entry.function + _STEP, eax=entry.eax + _STEP if is_first and entry.eax else entry.eax
    )
