"""From an observation to a verdict: what was promised, what was seen, and which era explains the difference."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from cpuidlab.base.errors import LabError
from cpuidlab.experiment.observation import ACCEPTED, Model, Observation, Probe
from cpuidlab.experiment.witnesses import answers_text
from cpuidlab.judge.eras import Era, eras
from cpuidlab.kvm.kmsg import Record, is_suppression_note
from cpuidlab.kvm.warning import RATE_LIMIT_BURST, WARNING_LEVEL, WARNING_LINES

_KVM_LINE = re.compile(r"\bkvm", re.IGNORECASE)
# Lines that are kept in the log and say nothing of CPUID: of a slow or shared machine, usual under emulation, whose
# kernel may have stopped to trust its TSC and says so again when a VM gets its second vCPU; of a guest kernel that
# tries a performance counter (PERF_CTR3) while it boots; of a vCPU that QEMU plugs in with the TSC rate that the first
# ones got, before the host had refined its own.
_UNRELATED = re.compile(
    r"hrtimer: interrupt took|perf: interrupt took too long|clocksource: |sched: RT throttling"
    r"|workqueue: \S+ (\[\w+\] )?hogged CPU|TSC found unstable after boot"
    r"|(kvm: )*SMP vm created on host with unstable TSC"
    r"|(kvm: )?user requested TSC rate (above|below) hardware speed"
    r"|(kvm: )?kvm \[\d+\]: vcpu\d+, guest rIP: 0x[0-9a-f]+ Unhandled WRMSR\(0xc0010007\)"
)

# Seen in one boot of some hundreds: a nested vCPU halts for 28 s, its timer's interrupt lost between two emulations.
_STOOD_STILL = ("stall: ", "lockup: ", "hung task: ")  # kinds that `kmsg.troubles` names
_HOPED = {"stable": "staying stable", "harmed": "living on, harmed"}


class Verdict(StrEnum):
    """The meaning of each is in the README; an ERROR says nothing about the kernel."""

    PASS = "PASS"  # noqa: S105 - no password
    KNOWN = "KNOWN"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Expectation:
    """What an era promises for one test; None stands for "any".

    `answer` is that of every call ("accepted" or an errno's name), None where no call is made. `lines` is how often
    each of the two warning lines is due: once for each accepted call on a vCPU that has run. `limited`: just so many of
    them get past the rate limit, and the kernel notes how many did not. `notes` is what the story
    itself notes. A `harmed` guest lives and is not stable. `defect`: what is expected is a bug of the era.
    """

    answer: str | None
    lines: int = 0
    limited: int | None = None
    notes: tuple[str, ...] | None = None
    model: Model | None = None
    guest: Literal["stable", "harmed", "dies"] | None = "stable"
    defect: bool = False


@dataclass(frozen=True)
class Judgement:
    """A verdict; the first line of `reason` says it all."""

    verdict: Verdict
    reason: str


def discrepancies(expectation: Expectation, observation: Observation) -> tuple[str, ...]:
    """One sentence for each thing that was seen to be other than expected, the weightiest first.

    Raises LabError where nothing else is wrong, and something that must be known was not looked at.
    """
    noise = _noise(expectation.lines, observation.host_log)
    if noise and expectation.answer is not None and not observation.answers:
        return noise  # the kernel's own trouble came before the call
    found = [
        *_answer_discrepancies(expectation, observation),
        *_line_discrepancies(expectation, observation),
        *_note_discrepancies(expectation.notes, observation.notes),
    ]
    for look in (_guest_discrepancies, _model_discrepancies):
        try:
            found += look(expectation, observation)
        except LabError:
            if not (found or noise):
                raise
    return (*found, *noise)


def judge(
    expect: Callable[[Era], Expectation],
    predicted: Era,
    probed: Era | None,
    observation: Observation,
    *,
    promise: str,
    rerun: str,
) -> Judgement:
    """Judge an observation that the witnesses agree on.

    `expect` says what an era promises for this test, `promise` is that promise in words, `rerun` the command that runs
    just this test again.
    """
    wrong = discrepancies(expect(predicted), observation)
    if not wrong:
        if expect(predicted).defect:
            return Judgement(Verdict.KNOWN, f"{observation.word}: the known defect of {_named(predicted)}")
        end = f" ({observation.fate.how})" if observation.fate.how else ""
        return Judgement(Verdict.PASS, f"{observation.word}{end}: {promise}")
    explained = _later_era(expect, predicted, probed, observation)
    if explained is not None:
        commits = _commits(explained.commits_after(predicted))
        text = f"{observation.word}: behaves as {explained.name} ({commits}, backported), not as {predicted.name}"
        return Judgement(Verdict.WARN, "\n".join((text, *wrong)))
    if probed is not None and predicted.later_than(probed):
        wrong = (f"{wrong[0]} (behaves as before {_commits(probed.ended_by())})", *wrong[1:])
    text = f"{wrong[0]}; promised by {_named(predicted)}: {promise}; rerun: {rerun}"
    return Judgement(Verdict.FAIL, "\n".join((text, *wrong[1:])))


def candidates(probe: Probe) -> tuple[Era, ...]:
    """The eras that fit what a probe showed, in order of history; some cannot be told apart by asking."""
    return tuple(era for era in eras() if _fits(era, probe))


def probe_era(probe: Probe, predicted: Era) -> Era | None:
    """The era that a probe showed, None where none fits; where several do, the predicted one, else a sound one."""
    fitting = candidates(probe)
    if predicted in fitting:
        return predicted
    return min(fitting, key=lambda era: era.defect, default=None)


def _fits(era: Era, probe: Probe) -> bool:
    def due(answer: str) -> int:
        return len(WARNING_LINES) if era.lines and answer == ACCEPTED else 0

    return (
        probe.identical in (era.identical, era.pending)
        and probe.changed == era.changed
        and probe.lines_identical == due(probe.identical)
        and probe.lines_changed == due(probe.changed)
    )


def _alike(one: Era, other: Era) -> bool:
    """Whether a probe would see the same of both."""
    return (one.identical, one.changed, one.lines) == (other.identical, other.changed, other.lines)


def _later_era(
    expect: Callable[[Era], Expectation], predicted: Era, probed: Era | None, observation: Observation
) -> Era | None:
    """The later era that explains what was seen: the probed one, one that a probe cannot tell from it, or any where
    a defect does not show."""
    suspects = [probed] if probed else []
    suspects += [era for era in eras() if (probed and _alike(era, probed)) or expect(predicted).defect]
    for era in suspects:
        if era.later_than(predicted) and not discrepancies(expect(era), observation):
            return era
    return None


def _answer_discrepancies(expectation: Expectation, observation: Observation) -> tuple[str, ...]:
    got = [(answer.vcpu, answer.answer) for answer in observation.answers]
    if expectation.answer is None:
        return (f"nothing was to be changed, but KVM_SET_CPUID was answered {answers_text(got)}",) if got else ()
    if not got:
        raise LabError("KVM_SET_CPUID was never called, so the kernel was not tested; see the hook's log")
    other = [one for one in got if one[1] != expectation.answer]
    return (f"KVM_SET_CPUID was answered {answers_text(other)} instead of {expectation.answer}",) if other else ()


def _line_discrepancies(expectation: Expectation, observation: Observation) -> tuple[str, ...]:
    lines = expectation.lines if expectation.limited is None else expectation.limited
    least = min(lines, RATE_LIMIT_BURST) if expectation.limited is None else lines
    found = []
    if expectation.limited is not None and not any(is_suppression_note(record) for record in observation.host_log):
        found.append('the host log lacks the note of "callbacks suppressed"')
    for line in WARNING_LINES:
        count = observation.line_count(line)
        if count == 0 and lines:
            found.append(f'the host log lacks the line "{line}"')
        elif not least <= count <= lines:
            due = f"{lines}" if least == lines else f"{least} to {lines}"
            found.append(f'the host logged {count} times instead of {due}: "{line}"')
    return tuple(found)


def _note_discrepancies(expected: tuple[str, ...] | None, seen: tuple[str, ...]) -> tuple[str, ...]:
    if expected is None or expected == seen:
        return ()
    return (f"seen was '{', '.join(seen) or 'nothing'}' instead of '{', '.join(expected) or 'nothing'}'",)


def _guest_discrepancies(expectation: Expectation, observation: Observation) -> tuple[str, ...]:
    fate, guest = observation.fate, observation.guest
    if expectation.guest is None:
        return ()
    if expectation.guest == "dies":
        return ("the guest lived on instead of dying",) if fate.alive else ()
    if not fate.alive:
        after = "" if fate.seconds is None else f" after {fate.seconds:.1f} s"
        return (f"the guest died{after} ({fate.how}) instead of {_HOPED[expectation.guest]}",)
    if guest is not None and guest.troubles and all(trouble.startswith(_STOOD_STILL) for trouble in guest.troubles):
        raise LabError(f"the guest stood still and went on, as a starved or lost timer does too: {guest.troubles[0]}")
    if expectation.guest == "harmed" and guest is not None:
        return ("the guest took no harm",) if guest.stable else ()
    if guest is None:
        raise LabError("nobody looked at the guest's health, so nothing can be said of it")
    return () if guest.stable else (f"the guest is not stable: {'; '.join(guest.troubles) or 'no reason given'}",)


def _model_discrepancies(expectation: Expectation, observation: Observation) -> tuple[str, ...]:
    if expectation.model is None or observation.model == expectation.model:
        return ()
    if observation.model is None:
        if observation.fate.alive:
            raise LabError("nobody read the CPUID back from KVM, so nothing can be said of it")
        return ()
    names = {"asked": "the one asked for", "before": "the one from before", "other": "neither of the two"}
    return (f"KVM's CPUID afterwards is {names[observation.model]}, not {names[expectation.model]}",)


def _noise(lines: int, log: Sequence[Record]) -> tuple[str, ...]:
    """Lines that break the promised silence: any warning or worse, and whatever speaks of KVM."""
    limited = lines > RATE_LIMIT_BURST
    return tuple(
        f'the host logged, at level {record.level}: "{record.text}"'
        for record in log
        if not (record.text in WARNING_LINES and record.level == WARNING_LEVEL)
        and not (limited and is_suppression_note(record))
        and (_KVM_LINE.search(record.text) or record.level <= WARNING_LEVEL)
        and not _UNRELATED.match(record.text)
    )


def _commits(commits: Sequence[str]) -> str:
    return f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}"


def _named(era: Era) -> str:
    """An era with the commits that made it; the first era is named by the commits that ended it."""
    return f"era {era.name} ({_commits(era.commits) if era.commits else 'before ' + _commits(era.ended_by())})"
