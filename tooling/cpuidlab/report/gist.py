"""The gist of a cell's facts: how KVM answered, and all that two cells must share to tell the same.

The gist leaves out what differs from run to run on the same kernel: how many lines got past the host's rate limit, the
addresses at which a guest died. A matrix.json of schema 1 tells the gist of each cell, and no more.
"""

from dataclasses import dataclass
from typing import Literal

from cpuidlab.experiment.facts import Facts, GuestState
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED

AnswerKind = Literal["silent", "warned", "refused", "partly"]


@dataclass(frozen=True)
class Gist:
    """What words tell of facts, without the words.

    `accepted` is how many of how many calls were accepted, where some were and some not. `guest` is None where the
    answer is known and nothing bad of the guest: schema 1 does not say then whether anybody looked at the guest.
    """

    answer: AnswerKind | None
    errnos: tuple[str, ...]
    accepted: tuple[int, int] | None
    is_warned: bool
    is_wrong_model: bool
    is_state_changed: bool
    notes: tuple[Note, ...]
    guest: GuestState | None


def gist(facts: Facts | None) -> Gist | None:
    """Take the gist of facts; None where nothing was observed."""
    if facts is None:
        return None
    answer = answer_of(facts)
    accepted = sum(one.answer == ACCEPTED for one in facts.answers)
    harm = facts.guest if facts.guest in (GuestState.DIED, GuestState.UNSTABLE) else None
    return Gist(
        answer=answer,
        errnos=errnos_of(facts),
        accepted=(accepted, len(facts.answers)) if answer == "partly" else None,
        is_warned=facts.warned,
        is_wrong_model=facts.model == "other",
        is_state_changed=facts.state_changed,
        notes=facts.notes,
        guest=harm if answer else facts.guest,
    )


def answer_of(facts: Facts | None) -> AnswerKind | None:
    """Say how KVM answered what was set, all calls together; None where nothing was set, or where nobody knows."""
    if facts is None:
        return None
    accepted = any(answer.answer == ACCEPTED for answer in facts.answers)
    if errnos_of(facts):
        return "partly" if accepted else "refused"
    if facts.warned:
        return "warned"
    return "silent" if accepted else None


def errnos_of(facts: Facts | None) -> tuple[str, ...]:
    """Return the names of the errnos that calls were refused with, sorted."""
    return tuple(sorted({answer.answer for answer in facts.answers} - {ACCEPTED})) if facts else ()
