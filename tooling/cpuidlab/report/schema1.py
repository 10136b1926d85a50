"""Read the words in which a matrix.json of schema 1 tells what was seen. No other module reads words.

The words below are those that schema 1 was written with; they stay as they are, whatever the words of today.
"""

import re

from cpuidlab.experiment.facts import Answer, Facts, GuestState
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED

_GUESTS = {
    "guest died": GuestState.DIED,
    "guest unstable": GuestState.UNSTABLE,
    "stable": GuestState.STABLE,
    "nothing changed": GuestState.UNSEEN,
}
_NOTES = {
    "no fault": Note.NO_FAULT,
    "fault": Note.FAULT,
    "missed fault": Note.MISSED_FAULT,
    "fault of the old mapping alone": Note.FAULT_OF_OLD_MAPPING,
    "harmless": Note.HARMLESS,
    "killed": Note.KILLED,
    "load verified": Note.LOAD_VERIFIED,
    "load failed": Note.LOAD_FAILED,
    "OSXSAVE stale": Note.OSXSAVE_STALE,
    "OSXSAVE cleared": Note.OSXSAVE_CLEARED,
    "all refused but what KVM keeps itself": Note.ALL_REFUSED,
    "all taken but what KVM checks": Note.ALL_TAKEN,
}
_ERRNO = r"(?:E[A-Z0-9]{1,30}|errno \d{1,10})"
_A_NOTE = f"(?:then )?(?:{'|'.join(_NOTES)}), "
_PARTLY = "taken: .*?, "  # of a sweep that took some bits and refused some: a list of these, with commas
# Each part ends with ", ", the last one too, so that every part can be left out.
_OBSERVED = re.compile(
    r"((?P<accepted>\d{1,4}) of (?P<calls>\d{1,4}) accepted, (?=refused ))?"
    rf"(refused (?P<errnos>{_ERRNO}(/{_ERRNO})*), )?"
    r"((?P<log>warned|silent), )?"
    r"((?P<model>wrong model), )?"
    rf"((?P<partly>{_PARTLY})|(?P<notes>({_A_NOTE})*))"
    rf"((?P<guest>{'|'.join(_GUESTS)}), )?",
    re.DOTALL,
)
_SWEEP_NOTES = {Note.ALL_REFUSED, Note.ALL_TAKEN, Note.PARTLY_TAKEN}


def facts_of_words(words: str) -> Facts | None:
    """Return the facts that the words tell; None for no words.

    What words do not tell is left unknown: which vCPU gave an answer and how often, how many lines a host logged that
    warned, which CPUID was read back unless that was a wrong one, whether anybody looked at a guest of which nothing
    is told, and how a dead guest ended. Raises ValueError where the words are none of schema 1.
    """
    if not words:
        return None
    parts = _OBSERVED.fullmatch(f"{words}, ")
    if parts is None:
        raise ValueError("'observed' is none of the words of schema 1")
    notes = (Note.PARTLY_TAKEN,) if parts["partly"] else _notes(parts["notes"])
    return Facts(
        answers=_answers(parts, notes),
        lines=None if parts["log"] == "warned" else (0, 0),
        model="other" if parts["model"] else None,
        guest=_GUESTS[parts["guest"] or "nothing changed"],
        notes=notes,
    )


def _answers(parts: re.Match[str], notes: tuple[Note, ...]) -> tuple[Answer, ...]:
    """Return one answer of each kind; as many as there were calls where both numbers are told.

    The calls of a sweep are no answers, so its warning tells of none; any other warning tells of an accepted call.
    """
    errnos = parts["errnos"].split("/") if parts["errnos"] else []
    if not errnos:
        accepted = parts["log"] == "silent" or (parts["log"] == "warned" and not _SWEEP_NOTES & set(notes))
        return (Answer(None, ACCEPTED),) if accepted else ()
    if not parts["calls"]:
        return tuple(Answer(None, errno) for errno in errnos)
    accepted_calls, calls = int(parts["accepted"]), int(parts["calls"])
    more = calls - accepted_calls - len(errnos)
    if accepted_calls < 1 or more < 0:
        raise ValueError(f"'observed' names {accepted_calls} accepted of {calls} calls and {len(errnos)} errnos")
    refused = [*errnos, *([errnos[0]] * more)]  # how often each errno came is not told
    return tuple(Answer(None, answer) for answer in [ACCEPTED] * accepted_calls + refused)


def _notes(text: str) -> tuple[Note, ...]:
    return tuple(_NOTES[part.removeprefix("then ")] for part in text.split(", ")[:-1])
