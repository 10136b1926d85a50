"""What one cell of the matrix carries: the facts of an observation, small enough for matrix.json, and no words."""

from dataclasses import dataclass, replace
from enum import StrEnum

from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import Model, Observation, Touched
from cpuidlab.kvm.warning import WARNING_LINES

MOST_TOUCHED = 8  # calls that changed the state of the vCPUs, and differences of each


class GuestState(StrEnum):
    """What became of the guest at the end of a test."""

    UNSEEN = "unseen"  # it was not to run, it had no registers to run with, or nobody looked
    STABLE = "stable"
    UNSTABLE = "unstable"
    DIED = "died"


@dataclass(frozen=True)
class Answer:
    """KVM's answer to one call: "accepted" or the name of an errno.

    `vcpu` is None where it is not known, as in a matrix.json of schema 1; the answer then stands for one call or more.
    """

    vcpu: int | None
    answer: str


@dataclass(frozen=True)
class Facts:
    """What was seen in one test.

    `answers` holds KVM's answer to each call, `lines` how often the host logged each of the two warning lines (None:
    the host warned, and nobody knows how often), `model` which CPUID was read back (None: not known), `ended` how a
    dead guest ended (empty: not known), `touched` the calls that changed the state of the vCPUs, with what they changed
    (the first of each; observation.json has all).
    """

    answers: tuple[Answer, ...] = ()
    lines: tuple[int, ...] | None = (0,) * len(WARNING_LINES)
    model: Model | None = None
    guest: GuestState = GuestState.UNSEEN
    ended: str = ""
    notes: tuple[Note, ...] = ()
    touched: tuple[Touched, ...] = ()

    @property
    def warned(self) -> bool:
        """Whether the host logged at least one of the two warning lines."""
        return self.lines is None or any(self.lines)

    @property
    def state_changed(self) -> bool:
        """Whether a call that was refused, or was to change nothing, changed the state of a vCPU."""
        return any(not call.may_alter for call in self.touched)


def facts_of(observation: Observation) -> Facts:
    """Take from an observation what its cell carries."""
    return Facts(
        answers=tuple(Answer(answer.vcpu, answer.answer) for answer in observation.answers),
        lines=tuple(observation.line_count(line) for line in WARNING_LINES),
        model=observation.model,
        guest=_guest_state(observation),
        ended=observation.fate.how or "",
        notes=observation.notes,
        touched=tuple(
            replace(one, differences=one.differences[:MOST_TOUCHED]) for one in observation.touched[:MOST_TOUCHED]
        ),
    )


def _guest_state(observation: Observation) -> GuestState:
    if Note.REGISTERS_REFUSED in observation.notes:  # whether QEMU ends by itself then depends on its version alone
        return GuestState.UNSEEN
    if not observation.fate.alive:
        return GuestState.DIED
    if observation.guest is None:
        return GuestState.UNSEEN
    return GuestState.STABLE if observation.guest.stable else GuestState.UNSTABLE
