"""The freeze map: what KVM answers to each call before the first vCPU, before its first KVM_RUN, and after it.

Each try has a VM of its own, so that none spoils the next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from cpuidlab.base.errors import LabError
from cpuidlab.experiment.bare_kvm import ACCEPTED, OUT, SET_TSS, BareKvm, Call, Reading
from cpuidlab.experiment.freeze_table import PHASES, UNTRIED, FreezeCall, FreezeRead, Phase, calls
from cpuidlab.experiment.sweep import Outcome
from cpuidlab.kvm import uapi
from cpuidlab.kvm.cpuid import Model

BITS = 64
IGNORED = "ignored"  # accepted, and KVM keeps what it had
MsrPhase = Literal["not run", "in L2", "has run"]
MSR_PHASES: tuple[MsrPhase, ...] = get_args(MsrPhase)
MsrBits = Mapping[Outcome, int]  # each bit of an MSR in one mask


@dataclass(frozen=True)
class FrozenMsr:
    """One feature MSR on a vCPU: its value, and what became of each bit flipped alone.

    It is flipped before and after the first run, and before it with L2 active, where KVM nests. `same` tells whether
    the value itself was taken again.
    """

    index: int
    value: int
    bits: Mapping[MsrPhase, MsrBits]
    same: Mapping[MsrPhase, bool]

    def taken(self, phase: MsrPhase) -> int:
        """The bits that could be changed."""
        return self.bits[phase]["applied"]

    @property
    def is_frozen_in_l2(self) -> bool | None:
        """Whether L2 took away what could be changed before; None where that was not tried."""
        return bool(self.taken("not run") & ~self.taken("in L2")) if "in L2" in self.bits else None

    @property
    def is_frozen(self) -> bool:
        """Whether the first run took away what could be changed before."""
        return bool(self.taken("not run") & ~self.taken("has run"))


@dataclass(frozen=True)
class FreezeMap:
    """What one kernel froze: KVM's answers by the call's name, a word each phase, and the feature MSRs.

    A call is missing where the kernel lacks the capability that it needs.
    """

    answers: Mapping[str, tuple[str, ...]]
    msrs: tuple[FrozenMsr, ...]


@dataclass(frozen=True)
class _Try:
    """A call that was made, and how to see whether KVM took what it accepted."""

    call: Call
    read: FreezeRead | None = None
    reading: Reading | None = None

    @property
    def word(self) -> str:
        """The answer."""
        if self.call.numbers[1] or self.read is None or self.reading is None:
            return self.call.word
        return ACCEPTED if self.read.sees(self.reading.data) else IGNORED


@dataclass(frozen=True)
class _Flip:
    """One bit flipped: the set, the read behind it, and what would be read if it was applied."""

    call: Call
    reading: Reading
    asked: int


def freeze_map(kvm: BareKvm, *, is_root: bool = True) -> FreezeMap:
    """Try every call of the table, and as root also those that need a right.

    Raises LabError where the host fails, or a vCPU does not run.
    """
    return _Trials(kvm, is_root).map()


class _Trials:
    """All tries on one host."""

    def __init__(self, kvm: BareKvm, is_root: bool) -> None:
        self._kvm = kvm
        self._calls = [one for one in calls().values() if is_root or not one.right]
        self._model: Model = kvm.supported_model()
        self._page = kvm.memory(OUT)
        self._runs: list[Call] = []

    def map(self) -> FreezeMap:
        vm = self._kvm.create_vm()
        has = {one.name: one.needs is None or self._kvm.has(vm, one.needs) for one in self._calls}
        usable = [one for one in self._calls if (known := has[one.name]) is True or known.value]
        self._kvm.close(vm)
        tries = {one.name: {phase: self._try(one, phase) for phase in one.phases} for one in usable}
        msrs = tuple(found for index in self._kvm.feature_msrs() if (found := self._msr(index)))
        answers = {
            name: tuple(made[phase].word if phase in made else UNTRIED for phase in PHASES)
            for name, made in tries.items()
        }
        self._check_runs()
        return FreezeMap(answers, msrs)

    def _try(self, one: FreezeCall, phase: Phase) -> _Try:
        """Make a VM as far as the phase says, and make the call on it."""
        vm = self._new_vm(with_tss=one.ioctl != SET_TSS)  # kvm_intel without EPT takes it once
        for name in one.first:
            self._make(vm, calls()[name])
        if phase == "no vCPU":
            made = self._make(vm, one)
            self._kvm.close(vm)
            return made
        vcpu = self._new_vcpu(vm, one.msrs)
        if phase == "has run":
            self._run(vcpu)
        made = self._make(vm if one.on == "vm" else vcpu, one)
        self._kvm.close(vcpu, vm)
        return made

    def _make(self, fd: int, one: FreezeCall) -> _Try:
        if one.ioctl == "KVM_CREATE_VCPU" and isinstance(one.arg, int):
            vcpu, call = self._kvm.try_create_vcpu(fd, one.arg)
            self._kvm.close(vcpu)
            return _Try(call)
        call = self._kvm.ioctl(fd, one.ioctl, one.arg if one.cap is None else uapi.enable_cap(one.cap, one.args))
        if one.read is None:
            return _Try(call)
        return _Try(call, one.read, self._kvm.read(fd, one.read.ioctl, b"", one.read.size))

    def _new_vm(self, *, with_tss: bool = True) -> int:
        vm = self._kvm.create_vm(with_tss=with_tss)
        self._kvm.map_code(vm, self._page)
        return vm

    def _new_vcpu(self, vm: int, msrs: tuple[tuple[int, int], ...] = ()) -> int:
        vcpu = self._kvm.create_vcpu(vm)
        self._kvm.set_model(vcpu, self._model)
        for index, value in msrs:
            self._kvm.set_msr(vcpu, index, value)
        return vcpu

    def _run(self, vcpu: int) -> None:
        self._runs.append(self._kvm.run(vcpu))

    def _check_runs(self) -> None:
        for call in self._runs:
            if call.exit_reason != "IO":
                raise LabError(f"a vCPU did not run: KVM_RUN came back with {call.exit_reason}", call.text)

    def _msr(self, index: int) -> FrozenMsr | None:
        """Flip each bit of a feature MSR, on one vCPU; None where a vCPU does not have the MSR."""
        vm = self._new_vm()
        vcpu = self._new_vcpu(vm)
        read = self._kvm.get_msr(vcpu, index)
        if read.call.value == 0:
            self._kvm.close(vcpu, vm)
            return None
        value = uapi.msr_values(read.data)[index]
        bits: dict[MsrPhase, MsrBits] = {}
        same: dict[MsrPhase, bool] = {}
        bits["not run"], same["not run"] = self._flips(vcpu, index, value)
        self._run(vcpu)
        bits["has run"], same["has run"] = self._flips(vcpu, index, value)
        self._kvm.close(vcpu, vm)
        vm = self._new_vm()
        vcpu = self._new_vcpu(vm)
        if self._kvm.load_l2(vcpu).word == ACCEPTED:
            bits["in L2"], same["in L2"] = self._flips(vcpu, index, value)
        self._kvm.close(vcpu, vm)
        return FrozenMsr(index, value, bits, same)

    def _flips(self, vcpu: int, index: int, value: int) -> tuple[MsrBits, bool]:
        """Flip each bit; say also whether the value itself is taken."""
        kept = self._kvm.set_msr(vcpu, index, value)
        flips = [self._flip(vcpu, index, value, bit) for bit in range(BITS)]
        return _masks(flips, value, index), kept.value == 1

    def _flip(self, vcpu: int, index: int, value: int, bit: int) -> _Flip:
        asked = value ^ 1 << bit
        flip = _Flip(self._kvm.set_msr(vcpu, index, asked), self._kvm.get_msr(vcpu, index), asked)
        self._kvm.set_msr(vcpu, index, value)
        return flip


def _masks(flips: list[_Flip], value: int, index: int) -> MsrBits:
    masks: dict[Outcome, int] = dict.fromkeys(("refused", "applied", "ignored", "other"), 0)
    for bit, flip in enumerate(flips):
        masks[_outcome(flip, value, index)] |= 1 << bit
    return masks


def _outcome(flip: _Flip, value: int, index: int) -> Outcome:
    seen = uapi.msr_values(flip.reading.data)[index]
    if flip.call.value == 1:
        return "applied" if seen == flip.asked else "ignored" if seen == value else "other"
    return "refused" if seen == value else "other"
