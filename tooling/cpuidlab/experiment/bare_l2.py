"""A guest of a VM's own guest, without QEMU: L1 is one VMRUN, and L2 writes to a port for ever (AMD SVM).

Each write brings KVM_RUN back to userspace while L2 is active. Offsets in the VMCB: APM volume 2, appendix B.
"""

import struct

from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.experiment.bare_kvm import OUT
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.note import Note
from cpuidlab.kvm import uapi
from cpuidlab.kvm.cpuid import get_field

_PAGES, _VMCB, _CODE, _HOST_SAVE, _END = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000  # guest-physical, from 0 on
_L2_CODE = _CODE + 0x100
_SLOT = 1
_IDENTITY_4_MIB = 0x83  # a page-directory entry: present, writable, PS
_PE_ET_PG, _PSE, _RFLAGS = 0x80000011, 0x10, 0x2
_VMRUN = bytes.fromhex("0f01d8f4")  # vmrun, hlt
_AGAIN = bytes.fromhex("ebfc")  # jmp back over the OUT of two bytes and itself
_VM_HSAVE_PA = 0xC0010117
_CODE_SEGMENT, _DATA_SEGMENT = (8, 0xB), (0x10, 0x3)  # selector, type
# Of the VMCB: intercept VMRUN, which is a must; ASID; then the state: EFER, CR4, CR3, CR0, DR7, DR6, RFLAGS, RIP
_VMCB_WORDS = {
    0x010: 1, 0x058: 1, 0x4D0: uapi.EFER_SVME, 0x548: _PSE, 0x550: _PAGES, 0x558: _PE_ET_PG, 0x560: 0x400,
    0x568: 0xFFFF0FF0, 0x570: _RFLAGS, 0x578: _L2_CODE,
}  # fmt: skip
_SEGMENTS = {"es": _DATA_SEGMENT, "cs": _CODE_SEGMENT, "ss": _DATA_SEGMENT, "ds": _DATA_SEGMENT}  # as in the VMCB
_VMCB_SEGMENTS = 0x400


def enter_l2(vm: BareVm) -> None:
    """Let the vCPU run until L2 has been entered and has written to its port.

    Raises UsageError on a CPU without SVM, LabError where L2 is not entered.
    """
    if not get_field(vm.model, "svm"):
        raise UsageError("this CPU model has no SVM, and the lab makes no other nested guest")
    kvm = vm.kvm
    _ = kvm.map_memory(vm.vm, _SLOT, 0, kvm.buffer(_memory()), _END).value
    sregs = kvm.read(vm.vcpu, "KVM_GET_SREGS", b"", uapi.SREGS_BYTES).data
    _ = kvm.ioctl(vm.vcpu, "KVM_SET_SREGS", _in_paged_mode(sregs)).value
    _ = kvm.ioctl(vm.vcpu, "KVM_SET_REGS", uapi.regs(rax=_VMCB, rip=_CODE, rflags=_RFLAGS)).value
    if kvm.set_msr(vm.vcpu, _VM_HSAVE_PA, _HOST_SAVE).value != 1:
        raise LabError("KVM takes no VM_HSAVE_PA")
    vm.run()
    if not _is_active(vm):
        raise LabError("KVM_RUN came back, and L2 is not active")


def note_l2(vm: BareVm) -> None:
    """Let the vCPU run on, and note whether that is L2, up to its next write to the port."""
    exit_reason = vm.kvm.run(vm.vcpu).exit_reason
    runs = exit_reason == "IO" and _is_active(vm)
    vm.note(Note.L2_RUNS_ON if runs else Note.L2_ENDED, *([] if runs else [f"KVM_RUN came back with {exit_reason}"]))


def _is_active(vm: BareVm) -> bool:
    given = uapi.nested_state_head(uapi.NESTED_BYTES)
    state = vm.kvm.read(vm.vcpu, "KVM_GET_NESTED_STATE", given, len(given)).data
    return bool(state[0] & uapi.NESTED_GUEST_MODE)


def _memory() -> bytes:
    """L1's memory: one page directory for both, which maps the first 4 MiB to themselves, the VMCB, and the code."""
    memory = bytearray(_END)
    struct.pack_into("<I", memory, _PAGES, _IDENTITY_4_MIB)
    for offset, value in _VMCB_WORDS.items():
        struct.pack_into("<I", memory, _VMCB + offset, value)
    for number, (selector, kind) in enumerate(_SEGMENTS.values()):
        struct.pack_into("<HHIQ", memory, _VMCB + _VMCB_SEGMENTS + 16 * number, selector, 0xC90 | kind, 0xFFFFFFFF, 0)
    for at, code in ((_CODE, _VMRUN), (_L2_CODE, OUT[:2] + _AGAIN)):
        memory[at : at + len(code)] = code
    return bytes(memory)


def _in_paged_mode(sregs: bytes) -> bytes:
    """The registers of a vCPU in 32-bit mode with paging, flat segments and SVM: KVM wants paging for VMRUN."""
    state = bytearray(sregs)
    for name, (selector, kind) in _SEGMENTS.items():
        uapi.put_flat_segment(state, name, selector, kind)
    for name, value in (("cr0", _PE_ET_PG), ("cr3", _PAGES), ("cr4", _PSE), ("efer", uapi.EFER_SVME)):
        struct.pack_into("<Q", state, uapi.SREGS_AT[name], value)
    return bytes(state)
