"""Words for what was seen in one test: made here, from facts, for people alone. Nothing reads them back."""

from collections import Counter
from collections.abc import Mapping

from cpuidlab.experiment.facts import Facts, GuestState
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED

NOTE_WORDS: Mapping[Note, str] = {
    Note.NO_FAULT: "no fault",
    Note.FAULT: "fault",
    Note.MISSED_FAULT: "missed fault",
    Note.FAULT_OF_OLD_MAPPING: "fault of the old mapping alone",
    Note.HARMLESS: "harmless",
    Note.KILLED: "killed",
    Note.LOAD_VERIFIED: "load verified",
    Note.LOAD_FAILED: "load failed",
    Note.OSXSAVE_STALE: "OSXSAVE stale",
    Note.OSXSAVE_CLEARED: "OSXSAVE cleared",
    Note.ID_TAKEN: "id taken",
    Note.ID_FREE: "id given twice",
    Note.VALUE_TAKEN: "MSR taken",
    Note.VALUE_REFUSED: "MSR refused",
    Note.AS_THE_TABLE_SAYS: "frozen as the table says",
    Note.UNLIKE_THE_TABLE: "frozen unlike the table says",
    Note.ALL_REFUSED: "all refused but what KVM keeps itself",
    Note.ALL_TAKEN: "all taken but what KVM checks",
    Note.PARTLY_TAKEN: "some bits refused and some taken",
    Note.REGISTERS_TAKEN: "registers taken",
    Note.REGISTERS_REFUSED: "registers refused",
    Note.REGISTERS_KEPT: "registers kept",
    Note.REGISTERS_CHANGED: "registers changed",
    Note.L2_RUNS_ON: "L2 runs on",
    Note.L2_ENDED: "L2 ended",
    Note.GOES_BY_OLD: "KVM goes by the old CPUID",
    Note.GOES_BY_NEW: "KVM goes by the new CPUID",
    Note.MEMORY_KEPT: "no memory lost",
    Note.MEMORY_LOST: "memory lost with each call",
    Note.NO_SLOWER: "no slower than an identical call",
    Note.SLOWER: "slower than an identical call",
    Note.TIMERS_ON_TIME: "guest's timers on time",
    Note.TIMERS_LATE: "guest's timers late",
}


def in_words(facts: Facts) -> str:
    """Say what was seen: first KVM's answers, then what the test noted, then what became of the guest."""
    parts = [
        answers_in_words(facts),
        model_in_words(facts),
        state_in_words(facts),
        notes_in_words(facts.notes),
        guest_in_words(facts),
    ]
    return ", ".join(part for part in parts if part) or "nothing changed"


def answers_in_words(facts: Facts) -> str:
    """Say what KVM answered, and whether the host warned; empty where no call was made and no line came."""
    refusals = Counter(answer.answer for answer in facts.answers)
    accepted = refusals.pop(ACCEPTED, 0)
    parts = []
    if accepted and refusals:
        parts.append(f"{accepted} of {len(facts.answers)} accepted")
    if refusals:
        parts.append("refused " + "/".join(sorted(refusals)))
    if facts.warned:
        parts.append("warned")
    elif accepted and not refusals:
        parts.append("silent")
    return ", ".join(parts)


def model_in_words(facts: Facts) -> str:
    """Say that KVM reports a CPUID which is neither the requested nor the old one; else nothing."""
    return "wrong model" if facts.model == "other" else ""


def state_in_words(facts: Facts) -> str:
    """Say that a call which was refused, or was to change nothing, changed the state of a vCPU; else nothing."""
    return "vCPU state changed" if facts.state_changed else ""


def notes_in_words(notes: tuple[Note, ...]) -> str:
    """Say what the test noted, in the order of time."""
    return ", then ".join(NOTE_WORDS[note] for note in notes)


def guest_in_words(facts: Facts) -> str:
    """Say what became of the guest. That it is stable goes without saying where anything else was seen."""
    match facts.guest:
        case GuestState.DIED:
            return "guest died"
        case GuestState.UNSTABLE:
            return "guest unstable"
        case GuestState.STABLE if not facts.answers and not facts.warned:
            return "stable"
    return ""
