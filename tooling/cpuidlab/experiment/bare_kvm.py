"""KVM on the host without QEMU: VMs of our own, each ioctl with KVM's exact answer (guests/host/barevm.c makes them).

Calls are queued, and made in their order as soon as somebody looks at an answer: a story of calls reads like a program,
and a table of a thousand calls costs one exchange.
"""

import errno as errnos
import itertools
import struct
import time
from dataclasses import dataclass

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError
from cpuidlab.kvm import uapi
from cpuidlab.kvm.cpuid import Model
from cpuidlab.kvm.hook_connection import Stream

ACCEPTED = "accepted"
SET_TSS = "KVM_SET_TSS_ADDR"
TSS_ADDRESS = 0xFFFBD000  # of three pages that nothing else uses; QEMU's place for them
RESET_PAGE, RESET_OFFSET = 0xFFFFF000, 0xFF0  # where a vCPU begins: the page of its first instruction
PAGE = 0x1000
# out %al, $0x80: KVM_RUN comes back with KVM_EXIT_IO, with or without an interrupt controller in the kernel.
OUT = bytes.fromhex("e680f4")
EXITS = {2: "IO", 5: "HLT", 8: "SHUTDOWN", 9: "FAIL_ENTRY", 10: "INTR", 17: "INTERNAL_ERROR"}  # KVM_EXIT_...


class Call:
    """A request that is queued or made."""

    def __init__(self, kvm: "BareKvm", request: str) -> None:
        self._kvm = kvm
        self.request = request
        self.answer = ""  # none yet

    @property
    def text(self) -> str:
        """The line of the answer. Raises LabError where the host does not answer."""
        if not self.answer:
            self._kvm.settle()
        return self.answer

    @property
    def numbers(self) -> tuple[int, int]:
        """The return value and the errno, 0 where the call did not fail."""
        ret, number, *_ = self.text.split()
        return int(ret), int(number)

    @property
    def value(self) -> int:
        """The return value. Raises LabError where the call failed."""
        ret, number = self.numbers
        if number:
            raise LabError(f"the host's KVM refused what it should do: {self.request[:200]}: {self.word}")
        return ret

    @property
    def word(self) -> str:
        """Such as `accepted`, or the name of the errno."""
        number = self.numbers[1]
        return errnos.errorcode.get(number, f"errno {number}") if number else ACCEPTED

    @property
    def exit_reason(self) -> str:
        """How KVM_RUN came back, such as `IO`; the errno's name where it failed."""
        reason = int(self.text.split()[2], 16)
        return EXITS.get(reason, f"exit {reason}") if self.numbers[1] == 0 else self.word


@dataclass(frozen=True)
class Reading:
    """A call that fills a buffer, and the bytes that are in the buffer afterwards."""

    call: Call
    dump: Call

    @property
    def data(self) -> bytes:
        """What KVM has written. Raises LabError where the call failed."""
        _ = self.call.value
        return bytes.fromhex(self.dump.text)


class BareKvm:
    """One conversation with the program on the host. Descriptors are numbers of its own."""

    def __init__(self, stream: Stream, deadline: Deadline) -> None:
        """Open /dev/kvm over there. `deadline` is for all calls."""
        self._stream = stream
        self._deadline = deadline
        self._queue: list[Call] = []
        self._free = list(range(255, -1, -1))
        self._buffers = itertools.count(1)  # 0 is for whatever a single call takes
        self.transcript: list[str] = []
        self.system = self._free.pop()
        self._opened = self._ask(f"open {self.system:x} /dev/kvm")

    def settle(self) -> None:
        """Make all calls that are queued. Raises LabError where the program ends or does not answer."""
        self._stream.send("".join(f"{call.request}\n" for call in self._queue).encode() + b"flush\n")
        for call in self._queue:
            call.answer = self._stream.recv_line(time.monotonic() + self._deadline.left())
            self.transcript.append(f"{call.request} -> {call.answer}")
        self._queue.clear()
        if self._opened.numbers[1]:
            raise LabError(f"/dev/kvm cannot be opened on the host: {self._opened.word}")

    def ioctl(self, fd: int, name: str, arg: int | bytes = 0, new: int | None = None) -> Call:
        """Call an ioctl with a number, or with a structure."""
        words = f"ioctl {fd:x} {uapi.REQUESTS[name]:x} "
        if isinstance(arg, bytes):
            self._ask(f"put 0 {arg.hex()}")
        words += "@0" if isinstance(arg, bytes) else f"{arg:x}"
        return self._ask(words if new is None else f"{words} {new:x}")

    def read(self, fd: int, name: str, given: bytes, count: int) -> Reading:
        """Call an ioctl that fills the structure that it is given, and read `count` bytes of it."""
        call = self.ioctl(fd, name, given)
        return Reading(call, self._ask(f"get 0 {count:x}"))

    def create_vm(self, *, with_tss: bool = True) -> int:
        """Return a new VM. kvm_intel without EPT wants a place for a TSS, or it warns when a vCPU runs in real mode."""
        vm = self._new(self.system, "KVM_CREATE_VM", 0)[0]
        if with_tss:
            self.ioctl(vm, SET_TSS, TSS_ADDRESS)
        return vm

    def create_vcpu(self, vm: int, number: int = 0) -> int:
        """Return a new vCPU."""
        return self.try_create_vcpu(vm, number)[0]

    def try_create_vcpu(self, vm: int, number: int = 0) -> tuple[int, Call]:
        """Return a new vCPU, and the call that tells whether there is one."""
        return self._new(vm, "KVM_CREATE_VCPU", number)

    def _new(self, fd: int, name: str, arg: int) -> tuple[int, Call]:
        new = self._free.pop()
        return new, self.ioctl(fd, name, arg, new)

    def close(self, *fds: int) -> None:
        """Close descriptors; a VM ends with its last one."""
        for fd in fds:
            self._ask(f"close {fd:x}")
            self._free.append(fd)

    def buffer(self, data: bytes) -> int:
        """Return a new buffer with data for `map_memory`, zeros behind it."""
        buffer = next(self._buffers)
        self._ask(f"put {buffer:x} {data.hex()}")
        return buffer

    def memory(self, code: bytes) -> int:
        """Return a new page of memory with code for `map_code`, zeros around it."""
        return self.buffer(bytes(RESET_OFFSET) + code)

    def map_code(self, vm: int, page: int) -> Call:
        """Map a page of code where a vCPU begins."""
        return self.map_memory(vm, 0, RESET_PAGE, page, PAGE)

    def map_memory(self, vm: int, slot: int, address: int, buffer: int, size: int) -> Call:
        """Map a buffer at a guest-physical address, as that memory slot."""
        self._ask(f"put 0 {uapi.memory_region(slot, address, size).hex()}")
        self._ask(f"point 0 {uapi.REGION_POINTER:x} {buffer:x}")
        return self._ask(f"ioctl {vm:x} {uapi.REQUESTS['KVM_SET_USER_MEMORY_REGION']:x} @0")

    def run(self, vcpu: int, *, immediate_exit: bool = False) -> Call:
        """Call KVM_RUN once."""
        return self._ask(f"run {vcpu:x} {immediate_exit:x}")

    def has(self, vm: int, cap: int) -> Call:
        """Ask for a capability; the answer's value is what KVM_CHECK_EXTENSION returns."""
        return self.ioctl(vm, "KVM_CHECK_EXTENSION", cap)

    def enable(self, fd: int, cap: int, *args: int) -> Call:
        """Enable a capability of a VM or vCPU."""
        return self.ioctl(fd, "KVM_ENABLE_CAP", uapi.enable_cap(cap, args))

    def set_msr(self, vcpu: int, index: int, value: int) -> Call:
        """Set one MSR; a refusal is the return value 0, and no errno."""
        return self.ioctl(vcpu, "KVM_SET_MSRS", uapi.msrs({index: value}))

    def get_msr(self, fd: int, index: int) -> Reading:
        """Read one MSR of a vCPU, or a feature MSR of the system; the call returns 0 where there is no such MSR."""
        given = uapi.msrs({index: 0})
        return self.read(fd, "KVM_GET_MSRS", given, len(given))

    def load_l2(self, vcpu: int) -> Call:
        """Let a vCPU that has not run be in the midst of a guest of its own (SVM)."""
        state = bytearray(self.read(vcpu, "KVM_GET_SREGS", b"", uapi.SREGS_BYTES).data)
        efer = struct.unpack_from("<Q", state, uapi.SREGS_EFER)[0]
        struct.pack_into("<Q", state, uapi.SREGS_EFER, efer | uapi.EFER_SVME)
        self.ioctl(vcpu, "KVM_SET_SREGS", bytes(state))
        return self.ioctl(vcpu, "KVM_SET_NESTED_STATE", uapi.svm_nested_state())

    def set_model(self, vcpu: int, model: Model, nent: int | None = None) -> Call:
        """Set the CPUID of a vCPU by KVM_SET_CPUID2; with `nent` that is the count, with entries of zeros behind."""
        return self.ioctl(vcpu, "KVM_SET_CPUID2", uapi.cpuid2(model, nent))

    def get_model(self, vcpu: int, own: int = uapi.MAX_ENTRIES) -> Model:
        """Return the CPUID of a vCPU; `own` is how many entries were set."""
        given = uapi.cpuid2((), uapi.MAX_ENTRIES)
        return uapi.model_of(self.read(vcpu, "KVM_GET_CPUID2", given, uapi.MODEL_BYTES).data, own)

    def supported_model(self) -> Model:
        """Return what KVM_GET_SUPPORTED_CPUID tells."""
        given = uapi.cpuid2((), uapi.MAX_ENTRIES)
        return uapi.model_of(self.read(self.system, "KVM_GET_SUPPORTED_CPUID", given, uapi.MODEL_BYTES).data)

    def feature_msrs(self) -> tuple[int, ...]:
        """Return the numbers of the feature MSRs that KVM knows on this host."""
        most = 1024
        reading = self.read(self.system, "KVM_GET_MSR_FEATURE_INDEX_LIST", struct.pack("<I", most), 4 * (most + 1))
        count, *numbers = struct.unpack(f"<{most + 1}I", reading.data)
        return tuple(numbers[:count])

    def _ask(self, request: str) -> Call:
        call = Call(self, request)
        self._queue.append(call)
        return call
