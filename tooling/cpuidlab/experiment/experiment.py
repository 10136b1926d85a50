"""What a test is told with: a rig, marks in its logs, changes to its CPUID, and an observation at the end."""

from collections.abc import Sequence
from contextlib import suppress

from cpuidlab.base.errors import GivenUpError, LabError
from cpuidlab.experiment import guest_exit, health, sweep
from cpuidlab.experiment.guest_cpuid import to_ask
from cpuidlab.experiment.observation import Fate, GuestReport, Observation, VcpuAnswer, which_model
from cpuidlab.experiment.sweep import Sweep
from cpuidlab.experiment.witnesses import agree
from cpuidlab.kvm import cpuid, kmsg
from cpuidlab.kvm.changes import parse, without_runtime_bits
from cpuidlab.kvm.cpuid import Model
from cpuidlab.kvm.hook import Answer, Call
from cpuidlab.kvm.hook_log import HookEvent, parse_log
from cpuidlab.rig.rig import TELL_SECONDS, GuestMark, Rig
from cpuidlab.rig.ssh import Program

# For a login and the health program after the change, and where the guest boots first. Between two it is asked whether
# the guest hangs.
PATIENCE, BOOT_PATIENCE = (4.0, 10.0, 20.0), (40.0, 20.0)
SWEEP = "sweep"  # the hook's one event for all the sets of a sweep: no answers of a test's own
END_SECONDS = 10.0  # after that, for a guest that is dying slowly
CLOSE_SECONDS = 1.0  # for a QEMU that is ending to close QMP


class UnseenError(LabError):
    """Nobody could look at a guest that may well live; `seen` is the observation of all the rest."""

    def __init__(self, why: LabError, seen: Observation) -> None:
        super().__init__(str(why), why.evidence)
        self.seen = seen


class Story:
    """One test on one rig, from the marks at its beginning to the observation at its end. The VM begins stopped."""

    def __init__(self, rig: Rig) -> None:
        """Take the marks of the host log and the hook log, and log in to the guest where it runs."""
        self.rig = rig
        self.deadline = rig.deadline
        self.answers: list[VcpuAnswer] = []
        self.notes: list[str] = []
        self.readings: list[str] = []  # a test's own evidence, line by line
        vcpus = rig.hook.list()
        self.vcpus = tuple(vcpu.id for vcpu in vcpus)
        self.runs = any(vcpu.has_run for vcpu in vcpus)
        self._files = rig.files()
        self._host_mark = kmsg.mark(kmsg.parse(self._files["host-log"]))
        self._hook_mark = len(parse_log(self._files["hook-log"]))
        self._booted = False
        self._begun: set[int] = set()  # vCPUs whose guest begins, or began, after their models were read
        self._guest_mark = rig.guest_mark
        if self.runs:
            _ = rig.guest  # the login before
        self._qemu_sets = 0
        self.patience: tuple[float, ...] = PATIENCE
        self.stop()
        self.before = self._models()
        self.asked = dict(self.before)
        self.after: dict[int, Model] = {}
        self._looked: health.Health | None = None  # None: not run, ended, or only its console still speaks
        self._dead: str | None = None  # why the guest counts as dead though its QEMU lives
        self._sick: tuple[str, ...] = ()  # what the console says of a guest that answers no more and has not ended

    def set(self, change: str = "", vcpus: Sequence[int] | None = None, call: Call = 2, *, live: bool = False) -> str:
        """Set the CPUID of each vCPU with that named change made to it, the same as before where none is named.

        The VM must be stopped, or with `live` running: then each vCPU's own thread calls, before its next KVM_RUN.
        Returns the answer of the last call. Raises UsageError where the change would change nothing on this CPU.
        """
        for vcpu in self.ask(change, vcpus):
            self.note(vcpu, self.rig.hook.set(vcpu, self.asked[vcpu], call, live=live))
        return self.answers[-1].answer

    def ask(self, change: str = "", vcpus: Sequence[int] | None = None) -> Sequence[int]:
        """Say which models are about to be asked for, as `set` does it; return the vCPUs."""
        chosen = self.vcpus if vcpus is None else vcpus
        for vcpu in chosen:
            self.asked[vcpu] = parse(change).apply(self.before[vcpu]) if change else self.before[vcpu]
        return chosen

    def sweep(self, vcpu: int = 0) -> Sweep:
        """Try every single change of a vCPU's model, and put it back after each; the VM must be stopped.

        Raises LabError where the hook, its log and the model before and after do not tell the same.
        """
        began = len(self._hook_events())
        found, counts = sweep.parse(self.rig.hook.sweep(vcpu))
        after = self.rig.hook.get(vcpu)
        self._files = self.rig.files()
        log = [event for event in self._hook_events()[began:] if event.kind == SWEEP]
        sweep.check(found, counts, self.before[vcpu], after, log)
        return found

    def note(self, vcpu: int, answer: Answer) -> None:
        """Keep what KVM answered."""
        self.answers.append(VcpuAnswer(vcpu, answer.word))

    def look_again(self) -> None:
        """Take what each vCPU has now as the model from before; the VM must be stopped."""
        self.before = self._models()
        self.asked = dict(self.before)

    def stop(self) -> None:
        """Stop the VM: no vCPU runs, so that their ioctls can be called from outside."""
        self.rig.stop()

    def resume(self) -> None:
        """Let the guest run on."""
        self.rig.resume()

    def said(self, program: Program) -> str | None:
        """What a program in the guest has said at its end; None where the guest ended before it."""
        try:
            return program.end(self.deadline.within(self.deadline.left() - END_SECONDS - TELL_SECONDS))
        except LabError:
            if not (self._given_up() or guest_exit.await_end(self.rig, self.deadline.within(END_SECONDS))):
                raise
            return None

    def boots(self) -> None:
        """From here on the guest boots: its uptime begins anew, and the next login may take as long as a boot."""
        self.runs = self._booted = True
        self._begun |= set(self.vcpus)
        self._guest_mark = GuestMark(0.0, -1)
        self.patience = BOOT_PATIENCE

    def adopt(self, vcpu: int) -> None:
        """Take a vCPU that QEMU has just plugged into the story: QEMU's own set counts as an answer, its model as the
        one from before and the one asked for. Leaves the VM stopped."""
        self.stop()
        self.qemu_set()
        self.vcpus = tuple(sorted({*self.vcpus, vcpu}))
        self._begun.add(vcpu)
        self.before[vcpu] = self.asked[vcpu] = self.rig.hook.get(vcpu)

    def qemu_set(self) -> None:
        """Take in what QEMU itself has set since the mark; only the hook's log tells of it."""
        self._files = self.rig.files()
        by_qemu = [event for event in self._sets() if event.by == "qemu"]
        self.answers += [VcpuAnswer(event.vcpu or 0, event.word) for event in by_qemu[self._qemu_sets :]]
        self._qemu_sets = len(by_qemu)

    def observe(self) -> Observation:
        """Let the guest run on, look at everything, and let the witnesses confirm each other.

        Raises LabError where they contradict each other, UnseenError where nobody can say what became of the guest.
        """
        unseen = None
        if self.runs:
            try:
                self._looked = self._look_at_guest()
            except LabError as error:
                unseen = error
        try:
            seen = self._seen()
        except LabError as error:
            raise unseen or error from error
        if unseen:
            raise UnseenError(unseen, seen)
        return seen

    def _seen(self) -> Observation:
        gone = guest_exit.is_gone(self.rig) or not self._takes_models()
        self._files = self.rig.files()
        ended = (
            guest_exit.of_dead(self.rig, self._hook_events()) if gone else Fate(alive=not self._dead, how=self._dead)
        )
        seen = Observation(
            answers=tuple(self.answers),
            model=which_model(*map(self._comparable, (self.after, self.asked, self.before))) if self.after else None,
            host_log=self._host_log(),
            guest=self._report() if ended.alive else None,
            fate=ended,
            notes=tuple(self.notes),
        )
        swept = any(event.kind == SWEEP for event in self._hook_events())
        agree(seen, [(event.vcpu or 0, event.word) for event in self._sets()], swept=swept)
        return seen

    def look_last(self) -> None:
        """The lab has failed: take in what still answers before the deadline, where each vCPU is and all files."""
        with suppress(LabError):
            registers = self.rig.qmp.execute("human-monitor-command", self.deadline, command_line="info registers -a")
            self.readings.append(f"when the lab failed:\n{registers}")
        with suppress(LabError):
            self._files = self.rig.files()

    def evidence(self) -> dict[str, str]:
        """All that a reader needs to judge for himself: file name -> text."""
        return {
            "host-log.txt": kmsg.to_text(self._host_log()),
            "guest-log.txt": kmsg.to_text(self._guest_log()),
            "guest-console.txt": self._files["guest-console"],
            "qemu-stderr.txt": self._files["qemu-stderr"],
            "readings.txt": "".join(f"{line}\n" for line in self.readings),
            "hook-log.txt": self._files["hook-log"],
            "qmp.txt": "".join(f"{line}\n" for line in self.rig.qmp.transcript),
            "models-before.txt": _models_text(self.before),
            "models-after.txt": _models_text(self.after),
            "models-diff.txt": self._diff_text(),
        }

    def _look_at_guest(self) -> health.Health | None:
        """Log in anew and look at the guest's health; None where the guest has ended."""
        if guest_exit.is_gone(self.rig) or self._given_up():  # QEMU would not let such a guest go on
            return None
        self.resume()
        program = None
        for seconds in self.patience:
            patience = self.deadline.within(seconds)
            try:
                program = program or self.rig.login(patience).start(self._ask_for_health(), patience)
                return health.parse(program.end(patience))
            except LabError as error:
                failure = error
                if guest_exit.is_gone(self.rig) or self._given_up():
                    return None
                self._dead = guest_exit.stuck(self.rig)
                if self._dead or guest_exit.is_gone(self.rig):
                    return None
        if guest_exit.await_end(self.rig, self.deadline.within(END_SECONDS)):
            return None
        self._sick = guest_exit.last_words(self.rig.files()["guest-console"])
        if not self._sick:
            raise failure
        return None

    def _given_up(self) -> bool:
        """Whether KVM can run the guest no further; its vCPUs stand still then, and would look stuck."""
        if not guest_exit.is_given_up(self.rig):
            return False
        self._files = self.rig.files()
        self._dead = guest_exit.of_given_up(self._hook_events(), self._files["qemu-stderr"])
        return True

    def _ask_for_health(self) -> str:
        leaves = to_ask([*self.before.values(), *self.asked.values()])
        return f"health {max(self._guest_mark.kmsg, 0)} {' '.join(leaves)}"

    def _report(self) -> GuestReport | None:
        if self._looked is None:
            return GuestReport(stable=False, troubles=self._sick) if self._sick else None
        models = [self.after[vcpu] for vcpu in self.vcpus]
        found = health.troubles(self._looked, self._guest_mark, models, self._booted)
        exits = [event for event in self._hook_events() if event.kind in guest_exit.GIVEN_UP]
        found += tuple(f"{guest_exit.GIVEN_UP[event.kind]} on vCPU {event.vcpu}" for event in exits[:1])
        return GuestReport(stable=not found, troubles=found)

    def _takes_models(self) -> bool:
        """Read each vCPU's model; False where the guest's QEMU has ended since it was last looked at."""
        try:
            self.stop()
            self._given_up()
            self.after = self._models()
        except GivenUpError:
            self._dead = "KVM gave the VM up: a bug of its own, EIO to each call (KVM_BUG_ON)"
        except LabError:
            if not guest_exit.await_end(self.rig, self.deadline.within(CLOSE_SECONDS)):
                raise
            return False
        return True

    def _comparable(self, models: dict[int, Model]) -> dict[int, Model]:
        return {vcpu: without_runtime_bits(one) if vcpu in self._begun else one for vcpu, one in models.items()}

    def _models(self) -> dict[int, Model]:
        return {vcpu: self.rig.hook.get(vcpu) for vcpu in self.vcpus}

    def _host_log(self) -> tuple[kmsg.Record, ...]:
        return kmsg.since(kmsg.parse(self._files["host-log"]), self._host_mark)

    def _guest_log(self) -> tuple[kmsg.Record, ...]:
        """For a reader: what there is, even where records are missing."""
        log = self._looked.log if self._looked else ()
        return tuple(record for record in log if record.sequence > self._guest_mark.kmsg)

    def _hook_events(self) -> tuple[HookEvent, ...]:
        return parse_log(self._files["hook-log"])[self._hook_mark :]

    def _sets(self) -> list[HookEvent]:
        return [event for event in self._hook_events() if event.kind.startswith("set_cpuid")]

    def _diff_text(self) -> str:
        return "".join(
            f"vCPU {vcpu}: {line}\n"
            for vcpu in self.after
            for line in cpuid.diff(self.before[vcpu], self.after[vcpu]) or ["unchanged"]
        )


def _models_text(models: dict[int, Model]) -> str:
    return "".join(f"vCPU {vcpu}\n{cpuid.to_text(model)}\n" for vcpu, model in models.items())
