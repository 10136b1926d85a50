"""What one cell of the matrix carries: the facts of an observation, small enough for matrix.json, and no words."""

from dataclasses import dataclass
from enum import StrEnum

from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import Model, Observation, VcpuAnswer
from cpuidlab.kvm.warning import WARNING_LINES


class GuestState(StrEnum):
    """What became of the guest at the end of a test."""

    UNSEEN = "unseen"  # it was not to run, or nobody looked
    STABLE = "stable"
    UNSTABLE = "unstable"
    DIED = "died"


@dataclass(frozen=True)
class Facts:
    """What was seen in one test.

    `answers` holds KVM's answer to each call, `lines` how often the host logged each of the two warning lines, `model`
    which CPUID was read back (None: nobody read it), `ended` how a dead guest ended.
    """

    answers: tuple[VcpuAnswer, ...] = ()
    lines: tuple[int, ...] = (0,) * len(WARNING_LINES)
    model: Model | None = None
    guest: GuestState = GuestState.UNSEEN
    ended: str = ""
    notes: tuple[Note, ...] = ()


def facts_of(observation: Observation) -> Facts:
    """Take from an observation what its cell carries."""
    return Facts(
        answers=observation.answers,
        lines=tuple(observation.line_count(line) for line in WARNING_LINES),
        model=observation.model,
        guest=_guest_state(observation),
        ended=observation.fate.how or "",
        notes=observation.notes,
    )


def _guest_state(observation: Observation) -> GuestState:
    if not observation.fate.alive:
        return GuestState.DIED
    if observation.guest is None:
        return GuestState.UNSEEN
    return GuestState.STABLE if observation.guest.stable else GuestState.UNSTABLE
