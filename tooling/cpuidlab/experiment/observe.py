"""Look at everything at the end of a test: the guest's health, its end, each vCPU's model, all logs."""

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from cpuidlab.base.errors import GivenUpError, LabError
from cpuidlab.experiment import guest_exit, health
from cpuidlab.experiment.guest import END_SECONDS, Course, Guest
from cpuidlab.experiment.guest_cpuid import to_ask
from cpuidlab.experiment.health import Health
from cpuidlab.experiment.observation import Fate, GuestReport, Observation, Unseen, which_model
from cpuidlab.experiment.rig_logs import RigLogs
from cpuidlab.experiment.witnesses import agree
from cpuidlab.kvm.changes import without_runtime_bits
from cpuidlab.kvm.cpuid import Model
from cpuidlab.kvm.kmsg import UNSTABLE_TSC

# How long a login and the health program may take after the change, and where the guest boots first, in seconds. After
# each try the guest is asked whether it hangs.
PATIENCE = {Course.RUNS_ON: (4.0, 10.0, 20.0), Course.BOOTS: (40.0, 20.0)}
CLOSE_SECONDS = 1.0  # for a QEMU that is ending to close QMP


class Nothing(Enum):
    """Why a look at the guest shows nothing of it."""

    NOT_RUN = auto()
    ENDED = auto()


@dataclass(frozen=True)
class Hung:
    """A guest that counts as dead though its QEMU lives."""

    how: str


@dataclass(frozen=True)
class LastWords:
    """A guest that answers no more and has not ended: what its console says."""

    lines: tuple[str, ...]


GuestLook = Health | LastWords | Hung | Unseen | Nothing


class Look:
    """One look at a guest, after all that a test has done to it; `after` and `guest_look` fill as it goes on."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._rig = guest.rig
        self.after: dict[int, Model] = {}
        self.guest_look: GuestLook = Nothing.NOT_RUN

    def observe(self) -> Observation:
        """Let the guest run on, look at everything, and let the witnesses confirm each other.

        Where nobody could look at the guest the observation says so. Raises LabError where the witnesses contradict
        each other, and where something else cannot be looked at.
        """
        self.guest_look = self._look_at_guest()
        try:
            return self._look_at_the_rest()
        except LabError as error:
            if isinstance(self.guest_look, Unseen):  # the first trouble explains the second
                raise LabError(self.guest_look.why, self.guest_look.evidence) from error
            raise

    def _look_at_guest(self) -> GuestLook:
        if self._guest.course is Course.STAYS_STOPPED:
            return Nothing.NOT_RUN
        try:
            if end := self._end_by_qemu():
                return end
            try:
                self._guest.resume()
            except LabError:  # it may have ended, or been given up, since that look
                if end := self._end_by_qemu():
                    return end
                raise
            return self._health()
        except LabError as error:
            return Unseen(str(error), error.evidence)

    def _end_by_qemu(self) -> Hung | Nothing | None:
        """Say how the guest ended by what QEMU says; None where it lives. QEMU lets a guest given up not go on."""
        if guest_exit.is_gone(self._rig):
            return Nothing.ENDED
        how = guest_exit.given_up(self._rig, self._guest.logs)
        return Hung(how) if how else None

    def _health(self) -> GuestLook:
        """Log in anew and look at the guest's health. Raises LabError where the guest neither answers nor ends."""
        program = None
        for seconds in PATIENCE[self._guest.course]:
            patience = self._guest.deadline.within(seconds)
            try:
                program = program or self._rig.login(patience).start(self._health_command(), patience)
                return health.parse(program.end(patience))
            except LabError as error:
                failure = error
                if end := self._end_meanwhile():
                    return end
        if guest_exit.await_end(self._rig, self._guest.deadline.within(END_SECONDS)):
            return Nothing.ENDED
        words = guest_exit.last_words(self._guest.logs.read().guest_console)
        if not words:
            raise failure
        return LastWords(words)

    def _end_meanwhile(self) -> Hung | Nothing | None:
        """Say why a guest does not answer; None where it may only be slow."""
        if end := self._end_by_qemu():
            return end
        patience = self._guest.deadline.within(END_SECONDS)
        if how := guest_exit.panicked(self._rig, patience) or guest_exit.stuck(self._rig):
            return Hung(how)
        return Nothing.ENDED if guest_exit.is_gone(self._rig) else None

    def _health_command(self) -> str:
        leaves = to_ask([*self._guest.before.values(), *self._guest.asked.values()])
        return f"health {max(self._guest.mark.kmsg, 0)} {' '.join(leaves)}"

    def _look_at_the_rest(self) -> Observation:
        asked, before = self._guest.asked, self._guest.before
        fate = self._fate()
        logs = self._guest.logs.read() if fate.exit_code is None else self._guest.logs.last
        observation = Observation(
            answers=tuple(self._guest.answers),
            model=which_model(*map(self._comparable, (self.after, asked, before))) if self.after else None,
            host_log=logs.host,
            guest=self._report() if fate.alive else None,
            fate=fate,
            notes=tuple(self._guest.notes),
            sweep_calls=_accepted_beside_answers(logs),
            unseen=self.guest_look if isinstance(self.guest_look, Unseen) else None,
            log_refused=self._rig.log_refused,
            touched=tuple(self._guest.state.touched),
            figures=tuple(self._guest.figures),
        )
        foreign = self._rig.foreign_line(observation.host_log)
        if foreign:
            raise LabError(f'another VM on the host logged "{foreign}", so the log does not tell of this test alone')
        if any(UNSTABLE_TSC in record.text for record in observation.host_log):
            raise LabError(
                "the host's kernel marked its TSC unstable, so KVM sets vCPUs' TSC back; run it on an idle machine"
            )
        agree(observation, [(event.vcpu or 0, event.word) for event in logs.sets], swept=bool(logs.sweeps))
        return observation

    def _fate(self) -> Fate:
        """Read each vCPU's model where there is still somebody to ask, and say whether the guest lives."""
        end = Nothing.ENDED if guest_exit.is_gone(self._rig) else self._read_models()
        if end is Nothing.ENDED:
            return guest_exit.of_dead(self._rig, self._guest.logs)
        hung = end or self.guest_look
        return Fate(alive=False, how=hung.how) if isinstance(hung, Hung) else Fate(alive=True)

    def _read_models(self) -> Hung | Nothing | None:
        """Read each vCPU's model; say what has become of a guest that lives no more."""
        try:
            self._guest.stop()
            how = guest_exit.given_up(self._rig, self._guest.logs)
            self.after = self._guest.models()
            self._guest.state.read(self._rig.hook)
        except GivenUpError:
            return Hung("KVM gave the VM up: a bug of its own, EIO to each call (KVM_BUG_ON)")
        except LabError:
            if not guest_exit.await_end(self._rig, self._guest.deadline.within(CLOSE_SECONDS)):
                raise
            return Nothing.ENDED
        return Hung(how) if how else None

    def _comparable(self, models: dict[int, Model]) -> dict[int, Model]:
        restarted = self._guest.restarted
        return {vcpu: without_runtime_bits(model) if vcpu in restarted else model for vcpu, model in models.items()}

    def _report(self) -> GuestReport | None:
        if isinstance(self.guest_look, LastWords):
            return GuestReport(stable=False, troubles=self.guest_look.lines)
        if not isinstance(self.guest_look, Health):
            return None
        models = [self.after[vcpu] for vcpu in self._guest.vcpus]
        booted = self._guest.course is Course.BOOTS
        troubles = health.troubles(self.guest_look, self._guest.mark, models, booted)
        exits = [event for event in self._guest.logs.last.hook if event.kind in guest_exit.GIVEN_UP]
        troubles += tuple(f"{guest_exit.GIVEN_UP[event.kind]} on vCPU {event.vcpu}" for event in exits[:1])
        return GuestReport(stable=not troubles, troubles=troubles)


def _accepted_beside_answers(logs: RigLogs) -> int:
    """Count what KVM accepted beside the answers: the calls of sweeps, and those of a row behind its first one."""
    rows = sum(event.times - 1 for event in logs.sets if event.ret == 0)
    return rows + sum((event.accepted or 0) + (event.restored or 0) for event in logs.sweeps)


def look_last(guest: Guest) -> None:
    """The lab has failed: take in what still answers before the deadline, where each vCPU is and all logs."""
    with suppress(LabError):
        registers = guest.rig.qmp.execute("human-monitor-command", guest.deadline, command_line="info registers -a")
        guest.write_down(f"when the lab failed:\n{registers}")
    with suppress(LabError):
        guest.logs.read()


def observed(guest: Guest) -> Observation:
    """Look at everything. Raises LabError where nobody could look at the guest."""
    observation = Look(guest).observe()
    if observation.unseen:
        raise LabError(observation.unseen.why, observation.unseen.evidence)
    return observation
