"""What a test does to a VM without QEMU: one vCPU, its CPUID, its first run. Everything that is done is kept.

There is no guest here that could take harm: KVM's answers, the CPUID read back and the host's log are all there is.
"""

import struct
from dataclasses import replace

from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.experiment.bare_kvm import OUT, BareKvm, Call
from cpuidlab.experiment.freeze import FreezeMap, freeze_map
from cpuidlab.experiment.freeze_table import calls
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED, Fate, Observation, VcpuAnswer, which_model
from cpuidlab.experiment.rig_logs import LogReader
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.kvm import cpuid, kmsg, uapi
from cpuidlab.kvm.changes import NO_CHANGE, parse
from cpuidlab.kvm.cpuid import Entry, Model
from cpuidlab.kvm.hypervisor_leaves import with_hyperv, with_xen
from cpuidlab.rig.rig import Rig

XEN_HVM, DISABLE_QUIRKS, DISABLE_EXITS = 38, 116, 143  # KVM_CAP_XEN_HVM, KVM_CAP_DISABLE_QUIRKS, ..._X86_DISABLE_EXITS
EXITS = {"mwait": 1, "hlt": 2}
NO_MWAIT_QUIRK = 1 << 4  # KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT
_CS_DB, _CS_L = 17, 19  # offsets in struct kvm_sregs
_PE_ET_PG, _PAE, _LME_LMA = 0x80000011, 0x20, 0x500
HWCR, HWCR_CPUID_USER_DIS = 0xC0010015, 1 << 35
FAULTING_LEAF = 0x80000021
FILL = 0x50000000  # the first leaf of entries that only fill a model


class BareVm:
    """One VM of a test. Its vCPU 0 is made by `make_vcpu`; before that the VM is set up."""

    def __init__(self, rig: Rig) -> None:
        """Take the mark in the host's log, and make the VM."""
        self.rig = rig
        self.answers: list[VcpuAnswer] = []
        self.notes: list[Note] = []
        self.figures: list[str] = []
        self.readings: list[str] = []
        self.logs = LogReader(rig)
        self.kvm = BareKvm(rig.open_barevm(), rig.deadline)
        self.model: Model = self.kvm.supported_model()  # what the vCPU is given, and what is set again
        self.vm = self.kvm.create_vm()
        self.kvm.map_code(self.vm, self.kvm.memory(OUT))
        self._made: int | None = None  # the vCPU
        self._count = 0  # of the entries that were set last
        self._before: Model | None = None
        self._asked: Model = ()
        self._after: Model = ()

    def disable_exits(self, *names: str) -> None:
        """Let the guest execute "hlt" or "mwait" without an exit. UsageError where the host cannot let it."""
        wanted = sum(EXITS[name] for name in names)
        if self.kvm.has(self.vm, DISABLE_EXITS).value & wanted != wanted:
            raise UsageError(f"KVM on this host does not let a guest execute {' and '.join(names)} by itself")
        _ = self.kvm.enable(self.vm, DISABLE_EXITS, wanted).value

    def add_chips(self) -> None:
        """Give the VM interrupt controllers and a PIT of KVM's, before it has a vCPU."""
        _ = self.kvm.ioctl(self.vm, "KVM_CREATE_IRQCHIP").value
        _ = self.kvm.ioctl(self.vm, "KVM_CREATE_PIT2", b"\0").value  # no flags

    def let_mwait_follow_misc_enable(self) -> None:
        """Switch off the quirk by which CPUID's MWAIT bit does not follow IA32_MISC_ENABLE."""
        _ = self.kvm.enable(self.vm, DISABLE_QUIRKS, NO_MWAIT_QUIRK).value

    def add_hyperv_leaves(self) -> None:
        """Give the vCPU Hyper-V's leaves, and KVM's own behind them."""
        self.model = with_hyperv(self.model)

    def add_xen_leaves(self) -> None:
        """Give the vCPU Xen's leaves. UsageError where the host's KVM knows nothing of Xen."""
        if not self.kvm.has(self.vm, XEN_HVM).value:
            raise UsageError("KVM on this host is built without Xen (CONFIG_KVM_XEN)")
        self.model = with_xen(self.model)

    def change(self, change: str) -> None:
        """Give the vCPU the model with a named change."""
        self.model = parse(change).apply(self.model)

    def add_cpuid_faulting(self, *, allowed: bool) -> None:
        """Let the model say by 0x80000021 EAX[17] whether a guest may let CPUID fault (HWCR[35])."""
        if cpuid.find(self.model, FAULTING_LEAF, 0) is None:
            self.model = (*map(_reaching, self.model), Entry(FAULTING_LEAF, 0, 0, 0, 0, 0, 0))
        self.model = cpuid.with_field(self.model, "cpuid_user_dis", int(allowed))

    def allow_faulting(self) -> None:
        """Set HWCR[35], as a guest does that lets CPUID fault, and note whether KVM takes that."""
        taken = self.kvm.set_msr(self.vcpu, HWCR, HWCR_CPUID_USER_DIS).value == 1
        self.notes.append(Note.VALUE_TAKEN if taken else Note.VALUE_REFUSED)

    def fill(self, count: int) -> None:
        """Give the vCPU as many more entries, for leaves that nobody reads, as make `count`."""
        self.model = self._filled(count)

    def _filled(self, count: int) -> Model:
        return (*self.model, *(Entry(FILL + at, 0, 0, 0, 0, 0, 0) for at in range(count - len(self.model))))

    def make_vcpu(self) -> None:
        """Make vCPU 0 with the model. LabError where KVM refuses that."""
        self._made = self.kvm.create_vcpu(self.vm)
        _ = self.kvm.set_model(self.vcpu, self.model).value
        self._count = len(self.model)

    @property
    def vcpu(self) -> int:
        """The descriptor of vCPU 0. Raises LabError where the test has made none."""
        if self._made is None:
            raise LabError("the test has made no vCPU; mend the test")
        return self._made

    def make_vcpu_again(self) -> None:
        """Ask for another vCPU of the same id, and note whether KVM says that there is one."""
        word = self.kvm.try_create_vcpu(self.vm)[1].word
        self.notes.append(Note.ID_TAKEN if word == "EEXIST" else Note.ID_FREE)

    def run(self) -> None:
        """Let the vCPU run up to its first exit. LabError where it does not get there."""
        self._expect("IO", self.kvm.run(self.vcpu))

    def run_not(self) -> None:
        """Call KVM_RUN with immediate_exit, which comes back before it enters the guest."""
        self._expect("EINTR", self.kvm.run(self.vcpu, immediate_exit=True))

    def fail_entry(self) -> None:
        """Give the vCPU a state with which no processor enters the guest, and call KVM_RUN.

        A code segment that is of 64 and of 32 bits at once is illegal in long mode; KVM leaves that to the processor.
        """
        state = bytearray(self.kvm.read(self.vcpu, "KVM_GET_SREGS", b"", uapi.SREGS_BYTES).data)
        for name, value in (("cr0", _PE_ET_PG), ("cr3", 0xFFFFF000), ("cr4", _PAE), ("efer", _LME_LMA)):
            struct.pack_into("<Q", state, uapi.SREGS_AT[name], value)
        state[_CS_DB] = state[_CS_L] = 1
        _ = self.kvm.ioctl(self.vcpu, "KVM_SET_SREGS", bytes(state)).value
        self._expect("FAIL_ENTRY", self.kvm.run(self.vcpu))

    def _expect(self, wanted: str, call: Call) -> None:
        if call.exit_reason != wanted:
            raise LabError(f"KVM_RUN came back with {call.exit_reason} instead of {wanted}", call.text)

    def set_cpuid(self, change: str = "", *, entries: int | None = None) -> str:
        """Set the model with the named change, or the same again, or filled up to a number of entries.

        Returns KVM's answer. Raises UsageError where the change would change nothing on this CPU.
        """
        named = parse(change) if change else NO_CHANGE
        before = self._read()
        self._before = self._before or before
        model = named.apply(self.model) if entries is None else self._filled(entries)
        self._asked = named.read_back(before) if entries is None else (*before, *model[len(before) :])
        word = self.kvm.set_model(self.vcpu, model).word
        self.answers.append(VcpuAnswer(0, word))
        if word == ACCEPTED:
            self._count = len(model)
        return word

    def freeze(self) -> FreezeMap:
        """Try what a first vCPU and a first KVM_RUN freeze, on other VMs; write down what the user may not try."""
        is_root = self.rig.user == "root"
        if not is_root:
            self.write_down(*(f"{one.text}: not tried, needs {one.right}" for one in calls().values() if one.right))
        return freeze_map(self.kvm, is_root=is_root)

    @property
    def kernel(self) -> Kernel:
        """The host's kernel."""
        return self.rig.setup.kernel

    def write_down(self, *lines: str) -> None:
        """Keep lines for the reader of the evidence; nobody judges them."""
        self.readings += lines

    def note(self, note: Note, *figures: str) -> None:
        """Keep what the test has seen beside KVM's answers, and sentences with what was measured."""
        self.notes.append(note)
        self.figures += figures

    def _read(self) -> Model:
        return () if self._made is None else self.kvm.get_model(self.vcpu, self._count)

    def observe(self) -> Observation:
        """Read everything once more, and say what was seen."""
        self._after = self._read()
        before = self._after if self._before is None else self._before
        observation = Observation(
            answers=tuple(self.answers),
            model=which_model(self._after, self._asked if self.answers else before, before),
            host_log=self.logs.read().host,
            guest=None,
            fate=Fate(alive=True),
            notes=tuple(self.notes),
            figures=tuple(self.figures),
            log_refused=self.rig.log_refused,
        )
        foreign = self.rig.foreign_line(observation.host_log)
        if foreign:
            raise LabError(f'another VM on the host logged "{foreign}", so the log does not tell of this test alone')
        return observation

    def files(self) -> dict[str, str]:
        """Return file name -> text for the evidence, as far as the test has come."""
        return {
            "host-log.txt": kmsg.to_text(self.logs.last.host),
            "readings.txt": "".join(f"{line}\n" for line in self.readings),
            "calls.txt": "".join(f"{line}\n" for line in self.kvm.transcript),
            "models-before.txt": cpuid.to_text(self._before or ()),
            "models-after.txt": cpuid.to_text(self._after),
            "models-diff.txt": "".join(f"{line}\n" for line in cpuid.diff(self._before or (), self._after)),
        }


def _reaching(entry: Entry) -> Entry:
    """The entry; the first extended leaf tells of all leaves up to that of CPUID faulting."""
    return replace(entry, eax=max(entry.eax, FAULTING_LEAF)) if entry.function == 0x80000000 else entry
