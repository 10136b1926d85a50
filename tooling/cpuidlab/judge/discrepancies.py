"""What is expected of one test, and in what an observation differs from that."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED, SWEEP, Model, Observation, Touched
from cpuidlab.experiment.witnesses import answers_text
from cpuidlab.experiment.words import notes_in_words
from cpuidlab.judge.host_lines import is_unrelated
from cpuidlab.kvm.kmsg import Record, is_suppression_note
from cpuidlab.kvm.state_rules import not_of_a_change
from cpuidlab.kvm.vcpu_state import Difference
from cpuidlab.kvm.warning import RATE_LIMIT_BURST, WARNING_LEVEL, WARNING_LINES

_KVM_LINE = re.compile(r"\bkvm", re.IGNORECASE)
# Seen in one boot of some hundreds: a nested vCPU halts for 28 s, its timer's interrupt lost between two emulations.
_STOOD_STILL = ("stall: ", "lockup: ", "hung task: ")  # kinds that `kmsg.troubles` names
KILLED = 128 + 9  # a shell's exit code of a program that SIGKILL has ended
_HOPED = {"stable": "staying stable", "harmed": "living on, harmed", "suffers": "dying or living on, harmed"}
_MODELS = {"asked": "the one asked for", "before": "the one from before", "other": "neither of the two"}
MOST_TOLD = 3  # differences of one vCPU's state in a sentence


ANY = "any"  # an answer that nobody promises


@dataclass(frozen=True)
class Expectation:
    """What an era promises for one test; None stands for "any".

    `answer` is the answer to every call ("accepted", an errno's name, ANY), None where no call is made. Several
    answers hold for the calls in turn, again and again. `calls` is how many calls the test makes. Where it `warns`
    each accepted call logs both warning lines; with `limited` just so many of each line get past the rate limit, and
    the kernel notes how many did not. `notes` is what the test itself notes. A `harmed` guest lives and is not
    stable; one that `suffers` may die as well. Where `guest` is None nobody promises what becomes of it. `defect`:
    what is expected is a bug of the era. `own_lines` is a pattern for lines of the host's log that the test brings
    about by something else than a CPUID.
    """

    answer: str | tuple[str, ...] | None
    calls: int | None = None
    warns: bool = False
    limited: int | None = None
    notes: tuple[Note, ...] | None = None
    model: Model | None = None
    guest: Literal["stable", "harmed", "suffers"] | None = "stable"
    defect: bool = False
    own_lines: str = ""


@dataclass(frozen=True)
class Discrepancies:
    """One sentence for each difference: `broken` tells of broken promises, the weightiest first, and `unseen` of what
    the lab did not see or do, so that nothing can be said."""

    broken: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Broken:
    text: str


@dataclass(frozen=True)
class _Unseen:
    text: str


_Found = Iterator[_Broken | _Unseen]


def compare(expectation: Expectation, observation: Observation) -> Discrepancies:
    """Find out in what an observation differs from what is expected."""
    lines = observation.accepted_calls if expectation.warns else 0
    log = observation.host_log  # empty where it cannot be read
    noise = [_Broken(text) for text in _noise(lines, log, expectation.own_lines)]
    if expectation.answer is not None and not observation.answers:
        # the kernel's own trouble came before the call
        never = _Unseen("KVM_SET_CPUID was never called, so the kernel was not tested; see the hook's log")
        return _apart(noise or [never])
    return _apart(
        [
            *_answers(expectation, observation),
            *(() if observation.log_refused else _lines(lines, expectation.limited, observation)),
            *_state(observation.touched),
            *_notes(expectation.notes, observation),
            *_guest(expectation, observation),
            *_model(expectation, observation),
            *noise,
        ]
    )


def _apart(found: Sequence[_Broken | _Unseen]) -> Discrepancies:
    return Discrepancies(
        broken=tuple(difference.text for difference in found if isinstance(difference, _Broken)),
        unseen=tuple(difference.text for difference in found if isinstance(difference, _Unseen)),
    )


def _answers(expectation: Expectation, observation: Observation) -> _Found:
    answers = [(answer.vcpu, answer.answer) for answer in observation.answers]
    if expectation.answer is None:
        if answers:
            yield _Broken(f"nothing was to be changed, but KVM_SET_CPUID was answered {answers_text(answers)}")
        return
    due = (expectation.answer,) if isinstance(expectation.answer, str) else expectation.answer
    other = [answer for answer, right in zip(answers, cycle(due), strict=False) if right not in (ANY, answer[1])]
    if other:
        yield _Broken(f"KVM_SET_CPUID was answered {answers_text(other)} instead of {', '.join(due)}")
    if expectation.calls not in (None, len(answers)):
        yield _Unseen(f"KVM_SET_CPUID was called {len(answers)} times instead of {expectation.calls}; mend the test")


def _lines(due: int, limited: int | None, observation: Observation) -> _Found:
    """Count the warning lines: `due` of each, or at least a burst of them, or `limited` and a note of the rest."""
    most = due if limited is None else limited
    least = min(due, RATE_LIMIT_BURST) if limited is None else limited
    if limited is not None and not any(is_suppression_note(record) for record in observation.host_log):
        yield _Broken('the host log lacks the note of "callbacks suppressed"')
    for line in WARNING_LINES:
        count = observation.line_count(line)
        if count == 0 and most:
            yield _Broken(f'the host log lacks the line "{line}"')
        elif not least <= count <= most:
            text = f"{most}" if least == most else f"{least} to {most}"
            yield _Broken(f'the host logged {count} times instead of {text}: "{line}"')


def _state(touched: Sequence[Touched]) -> _Found:
    """A call changes no vCPU's state, but for what moves by itself and what an accepted change may alter."""
    for call in touched:
        left = not_of_a_change(call.change, call.differences, call.vcpu) if call.may_alter else call.differences
        for vcpu in dict.fromkeys(one.vcpu for one in left):
            changed = [one for one in left if one.vcpu == vcpu]
            yield _Broken(f"{_call_text(call)} changed vCPU {vcpu}: {_differences_text(changed)}")


def _call_text(call: Touched) -> str:
    if call.change == SWEEP:
        return f"a {call.name} of vCPU {call.vcpu}"
    kind = "an accepted" if call.may_alter else "an identical" if call.answer == ACCEPTED else "a refused"
    change = f" ({call.change})" if call.may_alter else ""
    return f"{kind} {call.name} on vCPU {call.vcpu}{change}"


def _differences_text(differences: Sequence[Difference]) -> str:
    told = ", ".join(str(one) for one in differences[:MOST_TOLD])
    more = len(differences) - MOST_TOLD
    return f"{told} and {more} more" if more > 0 else told


def _notes(expected: tuple[Note, ...] | None, observation: Observation) -> _Found:
    if expected is not None and expected != observation.notes:
        both = [notes_in_words(notes) or "nothing" for notes in (observation.notes, expected)]
        figures = f": {'; '.join(observation.figures)}" if observation.figures else ""
        yield _Broken(f"seen was '{both[0]}' instead of '{both[1]}'{figures}")


def _guest(expectation: Expectation, observation: Observation) -> _Found:
    fate, guest, hoped = observation.fate, observation.guest, expectation.guest
    if fate.exit_code == KILLED:
        yield _Unseen("somebody killed the guest's QEMU with SIGKILL, so nothing can be said of its guest")
    elif hoped in (None, "suffers") and not fate.alive:
        yield from _end_that_nobody_confirms(observation)
    elif hoped is None:
        return
    elif not fate.alive:
        after = "" if fate.seconds is None else f" after {fate.seconds:.1f} s"
        yield _Broken(f"the guest died{after} ({fate.how}) instead of {_HOPED[hoped]}")
    elif guest is None:
        yield _Unseen("nobody looked at the guest's health, so nothing can be said of it")
    elif guest.troubles and all(trouble.startswith(_STOOD_STILL) for trouble in guest.troubles):
        yield _Unseen(f"the guest stood still and went on, as a starved or lost timer does too: {guest.troubles[0]}")
    elif hoped != "stable" and guest.stable:
        yield _Broken(f"the guest took no harm instead of {_HOPED[hoped]}")
    elif hoped == "stable" and not guest.stable:
        yield _Broken(f"the guest is not stable: {'; '.join(guest.troubles) or 'no reason given'}")


def _end_that_nobody_confirms(observation: Observation) -> _Found:
    """A guest that may die ends with QEMU's exit code 0, or hangs; any other exit code is a failure of QEMU, unless KVM
    had refused a CPUID or registers: QEMU then ends by itself."""
    fate = observation.fate
    refused = any(answer.answer != ACCEPTED for answer in observation.answers)
    refused = refused or Note.REGISTERS_REFUSED in observation.notes
    if fate.exit_code and not refused:
        yield _Unseen(f"QEMU failed with exit code {fate.exit_code}, which says nothing of its guest: {fate.how}")


def _model(expectation: Expectation, observation: Observation) -> _Found:
    if expectation.model is None or observation.model == expectation.model:
        return
    if observation.model:
        yield _Broken(f"KVM's CPUID afterwards is {_MODELS[observation.model]}, not {_MODELS[expectation.model]}")
    elif observation.fate.alive:
        yield _Unseen("nobody read the CPUID back from KVM, so nothing can be said of it")


def _noise(lines: int, log: Sequence[Record], own_lines: str) -> Iterator[str]:
    """Lines that break the promised silence: any warning or worse, and whatever speaks of KVM."""
    limited = lines > RATE_LIMIT_BURST
    for record in log:
        due = record.text in WARNING_LINES and record.level == WARNING_LEVEL
        due = due or (limited and is_suppression_note(record))
        due = due or bool(own_lines and re.match(own_lines, record.text))
        loud = _KVM_LINE.search(record.text) or record.level <= WARNING_LEVEL
        if loud and not due and not is_unrelated(record.text):
            yield f'the host logged, at level {record.level}: "{record.text}"'
