"""What a test does to a guest: set the CPUID of its vCPUs, stop it, let it run. Everything that is done is kept."""

from collections.abc import Sequence
from enum import Enum, auto

from cpuidlab.base.errors import LabError, UnsupportedError, UsageError
from cpuidlab.experiment import guest_exit, sweep
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import VcpuAnswer
from cpuidlab.experiment.rig_logs import LogReader
from cpuidlab.experiment.state_watch import StateWatch
from cpuidlab.experiment.sweep import Sweep
from cpuidlab.kvm.changes import NO_CHANGE, Change, parse
from cpuidlab.kvm.cpuid import Model, get_field
from cpuidlab.kvm.hook_answers import Answer, Call
from cpuidlab.rig.boot import told_by
from cpuidlab.rig.rig import TELL_SECONDS, GuestMark, Rig
from cpuidlab.rig.ssh import Program

END_SECONDS = 10.0  # how long a dying guest is waited for


class Course(Enum):
    """What the guest does when it is let run at the end of a test."""

    STAYS_STOPPED = auto()  # it is not let run, and nobody looks at it
    RUNS_ON = auto()
    BOOTS = auto()


class Guest:
    """The guest of one rig, from the marks in the rig's logs on. Its VM begins stopped.

    `before` holds each vCPU's model as the test found it, `asked` the model that KVM should report where it accepts
    what was set. `answers`, `notes`, `figures`, `readings` and `state` are what the test has seen so far.
    """

    def __init__(self, rig: Rig) -> None:
        """Take the marks, log in to the guest where it runs, stop it, and read each vCPU's model."""
        self.rig = rig
        self.deadline = rig.deadline
        vcpus = rig.hook.list()
        self.vcpus = tuple(vcpu.id for vcpu in vcpus)
        self.course = Course.RUNS_ON if any(vcpu.has_run for vcpu in vcpus) else Course.STAYS_STOPPED
        self.restarted: set[int] = set()  # vCPUs that begin anew, with runtime bits of their own, after `before`
        self.answers: list[VcpuAnswer] = []
        self.notes: list[Note] = []
        self.figures: list[str] = []
        self.readings: list[str] = []
        self.state = StateWatch()
        self.logs = LogReader(rig)
        self._mark = rig.guest_mark
        self._qemu_sets = 0
        if self.course is Course.RUNS_ON:
            self._log_in()
        self.stop()
        self.before = self.models()
        self.asked = dict(self.before)

    def _log_in(self) -> None:
        """Log in before the change. Raises LabError, with what is known of the guest, where it does not answer."""
        try:
            _ = self.rig.guest
        except LabError as error:
            raise type(error)(str(error), f"{told_by(self.rig)}\n{error.evidence}") from error

    @property
    def mark(self) -> GuestMark:
        """Where uptime and kernel log of the guest stood when the test began; a guest that boots begins at 0."""
        return GuestMark(0.0, -1) if self.course is Course.BOOTS else self._mark

    def set_cpuid(
        self,
        change: str = "",
        vcpus: Sequence[int] | None = None,
        call: Call = 2,
        *,
        nent: int | None = None,
        live: bool = False,
    ) -> str:
        """Set the CPUID of each vCPU with the named change made to it, or as it was before where no change is named.

        `call` 1 is KVM_SET_CPUID, 2 is KVM_SET_CPUID2; `nent` is the number of entries that KVM is told of where it
        is not the model's own. The VM must be stopped, or running where `live`: then each vCPU's own thread calls,
        before its next KVM_RUN. Returns the answer to the last call. Raises UsageError where the change would change
        nothing on this CPU.
        """
        chosen = self.vcpus if vcpus is None else tuple(vcpus)
        models = self.models_with(change, chosen)
        for vcpu in chosen:
            self._take(vcpu, self.rig.hook.set(vcpu, models[vcpu], call, nent, live=live), change, call, live=live)
        return self.answers[-1].answer

    def set_cpuid_just_read(self) -> None:
        """Set on each vCPU what KVM_GET_CPUID2 returns at this moment."""
        for vcpu in self.vcpus:
            self._take(vcpu, self.rig.hook.set(vcpu, self.rig.hook.get(vcpu)), "")

    def set_bad_pointer(self, change: str, vcpu: int, call: Call) -> None:
        """Ask for a change of one vCPU, and hand KVM a pointer that is not mapped."""
        self.models_with(change, [vcpu])
        self._take(vcpu, self.rig.hook.set_bad_pointer(vcpu, call), change, call)

    def set_bad_entries(self, change: str, vcpu: int, call: Call) -> None:
        """Ask for a change of one vCPU, and hand KVM a count that can be read before entries that are not mapped."""
        models = self.models_with(change, [vcpu])
        self._take(vcpu, self.rig.hook.set_bad_pointer(vcpu, call, nent=len(models[vcpu])), change, call)

    def models_with(self, change: str, vcpus: Sequence[int]) -> dict[int, Model]:
        """Ask for a change: return the model to set for each vCPU, and expect to read back what KVM keeps of it."""
        named = _named(change)
        self.asked |= {vcpu: named.read_back(self.before[vcpu]) for vcpu in vcpus}
        return {vcpu: named.apply(self.before[vcpu]) for vcpu in vcpus}

    def sweep(self, vcpu: int = 0) -> Sweep:
        """Try every single change of a vCPU's model, put the model back after each, and note what it amounts to.

        The VM must be stopped. Raises LabError where the hook, its log and the models before and after do not agree.
        """
        earlier = len(self.logs.last.sweeps)
        lines, differences = self.rig.hook.sweep(vcpu)
        swept, counts = sweep.parse(lines)
        after = self.rig.hook.get(vcpu)
        sweep.check(swept, counts, self.before[vcpu], after, self.logs.read().sweeps[earlier:])
        self.state.take_sweep(vcpu, differences)
        self.note(sweep.note_of(swept))
        return swept

    def load_nested_state(self, vcpu: int) -> None:
        """Let a vCPU that has not run be in the midst of a guest of its own.

        Raises LabError where KVM does not take it, UsageError on a CPU without SVM: the hook knows no other form.
        """
        if not get_field(self.before[vcpu], "svm"):
            raise UsageError("this CPU model has no SVM, and the hook makes no other nested state")
        self.rig.hook.load_l2(vcpu)

    def reports(self, field: str) -> bool:
        """Whether KVM reports a field of CPUID as other than 0 on any vCPU; the VM must be stopped."""
        return any(get_field(model, field) for model in self.models().values())

    def note(self, note: Note, *figures: str) -> None:
        """Keep what the test has seen beside KVM's answers; the judge compares all notes in their order.

        `figures` are sentences with what was measured, for a reader who wants to know why it is noted.
        """
        self.notes.append(note)
        self.figures += figures

    def write_down(self, *lines: str) -> None:
        """Keep lines for the reader of the evidence; nobody judges them."""
        self.readings += lines

    def stop(self) -> None:
        """Stop the VM: no vCPU runs, so that their ioctls can be called from outside."""
        self.rig.stop()

    def resume(self) -> None:
        """Let the guest run on."""
        self.rig.resume()

    def wait(self, seconds: float) -> None:
        """Let time pass, within the test's deadline."""
        self.deadline.pause(seconds)

    def start(self, command: str) -> Program:
        """Start a program in the running guest."""
        return self.rig.guest.start(command, self.deadline)

    def output_of(self, program: Program) -> str | None:
        """Wait for the end of a program in the guest and return its output; None where the guest ended before it."""
        patience = self.deadline.before(END_SECONDS + TELL_SECONDS)
        try:
            return program.end(patience)
        except LabError:
            if guest_exit.given_up(self.rig, self.logs):
                return None
            if guest_exit.await_end(self.rig, self.deadline.within(END_SECONDS)) or self.rig.panic():
                return None
            raise

    def let_boot(self) -> None:
        """Let the guest boot when it runs next: its uptime begins anew, and its login may take as long as a boot.

        Raises UnsupportedError where no Linux guest boots on this host.
        """
        if self.rig.no_linux:
            raise UnsupportedError(self.rig.no_linux)
        self.course = Course.BOOTS
        self.restarted |= set(self.vcpus)

    def leave_stopped(self) -> None:
        """Do not let the guest run any more in this test."""
        self.course = Course.STAYS_STOPPED

    def adopt(self, vcpu: int) -> None:
        """Take in a vCPU that QEMU has just plugged, and leave the VM stopped.

        What QEMU has set counts as an answer, and the vCPU's model both as the one before and as the one asked for.
        """
        self.stop()
        self.take_answers_to_qemu()
        self.vcpus = tuple(sorted({*self.vcpus, vcpu}))
        self.restarted.add(vcpu)
        self.before[vcpu] = self.asked[vcpu] = self.rig.hook.get(vcpu)

    def take_answers_to_qemu(self) -> None:
        """Keep what KVM has answered to QEMU itself since the mark; only the hook's log tells of it."""
        by_qemu = self.logs.read().sets_by_qemu
        for vcpu, answer in by_qemu[self._qemu_sets :]:
            self.answers.append(VcpuAnswer(vcpu, answer.word))
            self.state.take_logged(vcpu, answer)
        self._qemu_sets = len(by_qemu)

    def begin_from_here(self) -> None:
        """Take the models that the vCPUs have now as those from before; the VM must be stopped."""
        self.before = self.models()
        self.asked = dict(self.before)

    def models(self) -> dict[int, Model]:
        """Read each vCPU's model; the VM must be stopped."""
        return {vcpu: self.rig.hook.get(vcpu) for vcpu in self.vcpus}

    def _take(self, vcpu: int, answer: Answer, change: str, call: Call = 2, *, live: bool = False) -> None:
        self.answers.append(VcpuAnswer(vcpu, answer.word))
        self.state.take(self.rig.hook, vcpu, answer, change, call, live=live)


def _named(change: str) -> Change:
    return parse(change) if change else NO_CHANGE
