"""The program of bare VMs without KVM: it answers each call of the freeze table as it is told, phase by phase.

Its CPUID is that of an era: what it answers to a changed one once the vCPU has run, and whether it knows Xen.
"""

import errno as errnos
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cpuidlab.base.errors import LabError
from cpuidlab.experiment.freeze_table import FreezeCall, calls
from cpuidlab.kvm import uapi
from models import EPYC

NAMES = {number: name for name, number in uapi.REQUESTS.items()}
KEPT = {"XCRS", "DEBUGREGS", "IRQCHIP", "PIT2"}  # what is set and read as it was set
UCODE_REV, ARCH_CAPABILITIES, DE_CFG = 0x8B, 0x10A, 0xC0011029


@dataclass
class FakeVm:
    """A VM, or the vCPU of one: what was called on it, and how far it is."""

    made: set[str] = field(default_factory=set)
    phase: int = 0
    model: bytes = b""
    in_l2: bool = False
    msrs: dict[int, int] = field(default_factory=lambda: {UCODE_REV: 1, ARCH_CAPABILITIES: 0b101, DE_CFG: 0})


class FakeBareVm:
    """A stream to the program. `answers` are a word each phase, by a call's name; the kernel lacks all others.

    The MSRs in `frozen` are refused once the vCPU has run, and with `nests` while L2 is active (None: no L2 can be);
    of DE_CFG only bit 1 is ever taken.
    """

    def __init__(self, answers: Mapping[str, tuple[str, ...]], frozen: tuple[int, ...] = ()) -> None:
        self.answers = answers
        self.frozen = frozen
        self.exit_reason = 2  # KVM_EXIT_IO
        self.changed = "accepted"  # the answer to another model of a vCPU that has run
        self.capabilities: dict[int, int] = {}  # beside those of the answers
        self.sregs = b""
        self.kept: dict[str, bytes] = {}  # what KVM_SET_XCRS and others have set: "XCRS", "IRQCHIP 2"
        self.reserved: dict[str, int] = {}  # bits of "cr3" and "cr4" that KVM_SET_SREGS refuses
        self.in_guest_mode = False
        self.on_set_cpuid: Callable[[], None] = lambda: None
        self.refuses_msrs = False
        self.nests: bool | None = None
        self.torn = 0  # an MSR that takes a value and says that it does not
        self.echoes = False  # KVM_GET_CPUID2 leaves the caller's count in place, as before 6.5
        self._fds: dict[str, FakeVm] = {}
        self._buffers: dict[str, bytes] = {}
        self._lines: list[str] = []

    def send(self, data: bytes) -> None:
        verbs: dict[str, Callable[..., str]] = {
            "open": self._open, "ioctl": self._ioctl, "run": self._run, "close": self._close, "put": self._put,
            "point": lambda *_: "0 0", "get": self._get,
        }  # fmt: skip
        for line in data.decode().splitlines():
            verb, *words = line.split(" ")
            if verb != "flush":
                self._lines.append(verbs[verb](*words))

    def recv_line(self, _: float) -> str:
        if not self._lines:
            raise LabError("the stream ended")
        return self._lines.pop(0)

    def _open(self, fd: str, _: str) -> str:
        self._fds[fd] = FakeVm()
        return "3 0"

    def _close(self, fd: str) -> str:
        return "0 0" if self._fds.pop(fd, None) else f"-1 {errnos.EBADF}"

    def _run(self, fd: str, immediate_exit: str) -> str:
        if immediate_exit == "1":
            return f"-1 {errnos.EINTR} 0 0"
        self._fds[fd].phase = 2
        if self.sregs[17:20:2] == b"\1\1":  # cs.db and cs.l
            return "0 0 9 0"  # KVM_EXIT_FAIL_ENTRY
        return f"0 0 {self.exit_reason:x} 0"

    def _put(self, buffer: str, data: str = "") -> str:
        self._buffers[buffer] = bytes.fromhex(data)
        return "0 0"

    def _get(self, buffer: str, count: str) -> str:
        return self._buffers[buffer].ljust(int(count, 16), b"\0").hex()

    def _ioctl(self, fd: str, request: str, arg: str, new: str = "") -> str:
        name, vm = NAMES[int(request, 16)], self._fds[fd]
        given: int | bytes = self._buffers[arg[1:]] if arg.startswith("@") else int(arg, 16)
        plain = {
            "KVM_CREATE_VM": self._create_vm, "KVM_GET_SUPPORTED_CPUID": self._model, "KVM_SET_MSRS": self._set_msr,
            "KVM_GET_MSR_FEATURE_INDEX_LIST": self._msr_list, "KVM_GET_MSRS": self._get_msr,
            "KVM_SET_CPUID2": self._set_model, "KVM_GET_CPUID2": self._get_model, "KVM_GET_LAPIC": self._nothing,
            "KVM_CHECK_EXTENSION": self._has, "KVM_GET_SREGS": self._get_sregs, "KVM_SET_SREGS": self._set_sregs,
            "KVM_SET_NESTED_STATE": self._load_l2, "KVM_GET_NESTED_STATE": self._nested, "KVM_SET_REGS": self._nothing,
        }  # fmt: skip
        if name == "KVM_SET_USER_MEMORY_REGION" and self._buffers[arg[1:]] != bytes(8):
            return "0 0"
        if name == "KVM_CREATE_VCPU" and vm.phase == 0:
            self._fds[new] = vm  # one is enough
            vm.phase = 1
            return "5 0"
        _, verb, what = name.split("_", 2)
        if what in KEPT and isinstance(given, bytes):
            return self._keep(what, given, get=verb == "GET")
        return plain.get(name, self._call(name))(vm, given, new)

    def _call(self, ioctl: str) -> Callable[[FakeVm, int | bytes, str], str]:
        def answer(vm: FakeVm, given: int | bytes, new: str) -> str:
            alike = [each for each in calls().values() if (each.ioctl, _payload(each)) == (ioctl, given)]
            one = max(alike, key=lambda each: len(vm.made & {*each.first}))
            word = self.answers[one.name][vm.phase] if one.name in self.answers else "ENOTTY"
            if word == "accepted" and ioctl == "KVM_SET_TSS_ADDR" and one.name in vm.made:
                word = "EEXIST"  # kvm_intel without EPT takes it once
            if word != "accepted":
                return f"-1 {getattr(errnos, word)}"
            vm.made.add(one.name)
            return "0 0"

        return answer

    def _set_model(self, vm: FakeVm, given: int | bytes, _: str) -> str:
        assert isinstance(given, bytes)
        self.on_set_cpuid()
        if uapi.count_of(given) > uapi.MAX_ENTRIES:
            return f"-1 {errnos.E2BIG}"
        if vm.phase == 2 and given != vm.model and self.changed != "accepted":
            return f"-1 {getattr(errnos, self.changed)}"
        vm.model = given
        return "0 0"

    def _get_model(self, vm: FakeVm, *_: object) -> str:
        head = uapi.cpuid2((), uapi.MAX_ENTRIES) if self.echoes else vm.model[:8]
        self._buffers["0"] = head + vm.model[8:]
        return "0 0"

    def _set_sregs(self, _: FakeVm, given: int | bytes, __: str) -> str:
        assert isinstance(given, bytes)
        values = {name: struct.unpack_from("<Q", given, uapi.SREGS_AT[name])[0] for name in self.reserved}
        if any(values[name] & bits for name, bits in self.reserved.items()):
            return f"-1 {errnos.EINVAL}"
        self.sregs = given
        return "0 0"

    def _get_sregs(self, *_: object) -> str:
        self._buffers["0"] = self.sregs
        return "0 0"

    def _keep(self, what: str, given: bytes, *, get: bool) -> str:
        name = f"{what} {given[0]}" if what == "IRQCHIP" else what
        if get:
            self._buffers["0"] = self.kept.get(name, given)
        else:
            self.kept[name] = given
        return "0 0"

    def _load_l2(self, vm: FakeVm, *_: object) -> str:
        vm.in_l2 = self.nests is not None
        self.sregs = b""
        return "0 0" if vm.in_l2 else f"-1 {errnos.EINVAL}"

    def _nested(self, *_: object) -> str:
        self._buffers["0"] = bytes([self.in_guest_mode])
        return "0 0"

    def _has(self, _: FakeVm, cap: int | bytes, __: str) -> str:
        if cap in self.capabilities:
            return f"{self.capabilities[int(cap)]} 0"
        return f"{int(any(each.needs == cap and each.name in self.answers for each in calls().values()))} 0"

    def _create_vm(self, _: FakeVm, __: int | bytes, new: str) -> str:
        self._fds[new] = FakeVm()
        return "4 0"

    def _nothing(self, _: FakeVm, __: int | bytes, ___: str) -> str:
        return "0 0"

    def _model(self, *_: object) -> str:
        self._buffers["0"] = uapi.cpuid2(EPYC)
        return "0 0"

    def _msr_list(self, vm: FakeVm, *_: object) -> str:
        numbers = FakeVm().msrs
        self._buffers["0"] = struct.pack(f"<{len(numbers) + 1}I", len(numbers), *numbers)
        return "0 0"

    def _get_msr(self, vm: FakeVm, given: int | bytes, _: str) -> str:
        assert isinstance(given, bytes)
        index = next(iter(uapi.msr_values(given)))
        self._buffers["0"] = uapi.msrs({index: vm.msrs[index]})
        return "1 0"

    def _set_msr(self, vm: FakeVm, given: int | bytes, _: str) -> str:
        assert isinstance(given, bytes)
        ((index, value),) = uapi.msr_values(given).items()
        frozen = vm.phase == 2 or (vm.in_l2 and self.nests)
        if frozen and index in self.frozen and value != vm.msrs[index]:
            return "0 0"
        if self.refuses_msrs or (index == DE_CFG and value & ~2):
            return "0 0"
        vm.msrs[index] = value
        return f"{int(index != self.torn)} 0"


def _payload(one: FreezeCall) -> int | bytes:
    return one.arg if one.cap is None else uapi.enable_cap(one.cap, one.args)
