"""From an observation to a verdict: what was promised, what was seen, and which era explains the difference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from cpuidlab.experiment.facts import facts_of
from cpuidlab.experiment.observation import Observation
from cpuidlab.experiment.words import in_words
from cpuidlab.judge.discrepancies import Discrepancies, Expectation, compare
from cpuidlab.judge.eras import Era, eras
from cpuidlab.judge.probed_era import alike


class Verdict(StrEnum):
    """The meaning of each is in the README; an ERROR says nothing about the kernel."""

    PASS = "PASS"  # noqa: S105 - no password
    KNOWN = "KNOWN"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"
    ERROR = "ERROR"


@dataclass(frozen=True)
class Judgement:
    """A verdict; the first line of `reason` says it all. `evidence` is the longer story of an ERROR."""

    verdict: Verdict
    reason: str
    evidence: str = ""


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
    just this test again. A broken promise is told even where something was not seen. Nothing else is said then: the
    judgement is an ERROR. Where the host's log could not be read it is a SKIP, for each promise is about the log too.
    """
    difference = compare(expect(predicted), observation)
    if not difference.broken:
        judgement = _unbroken(expect(predicted), predicted, difference, observation, promise)
    else:
        later = _by_a_later_era(expect, predicted, probed, difference, observation)
        judgement = later or _failed(predicted, probed, difference, f"{promise}; rerun: {rerun}")
    if observation.unseen and judgement.verdict is not Verdict.FAIL:
        return Judgement(Verdict.ERROR, observation.unseen.why, observation.unseen.evidence)
    if observation.log_refused and judgement.verdict not in (Verdict.FAIL, Verdict.ERROR):
        return Judgement(Verdict.SKIP, f"all but the host's log is as promised: {observation.log_refused}")
    return judgement


def _by_a_later_era(
    expect: Callable[[Era], Expectation],
    predicted: Era,
    probed: Era | None,
    difference: Discrepancies,
    observation: Observation,
) -> Judgement | None:
    """Explain what was seen by a later era, whose commits were backported; None where none explains it."""
    words = in_words(facts_of(observation))
    for era in _later_eras(expect, predicted, probed):
        explained = compare(expect(era), observation)
        if not explained.broken:
            if explained.unseen:
                return Judgement(Verdict.ERROR, explained.unseen[0])
            commits = _commits(era.commits_after(predicted))
            text = f"{words}: behaves as {era.name} ({commits}, backported), not as {predicted.name}"
            return Judgement(Verdict.WARN, "\n".join((text, *difference.broken)))
    return None


def _failed(predicted: Era, probed: Era | None, difference: Discrepancies, promise: str) -> Judgement:
    first, *others = difference.broken
    if probed is not None and predicted.later_than(probed):
        first = f"{first} (behaves as before {_commits(probed.ended_by())})"
    return Judgement(Verdict.FAIL, "\n".join((f"{first}; promised by {_named(predicted)}: {promise}", *others)))


def _unbroken(
    expectation: Expectation, predicted: Era, difference: Discrepancies, observation: Observation, promise: str
) -> Judgement:
    words = in_words(facts_of(observation))
    if difference.unseen:
        return Judgement(Verdict.ERROR, difference.unseen[0])
    if expectation.defect:
        return Judgement(Verdict.KNOWN, f"{words}: the known defect of {_named(predicted)}")
    end = f" ({observation.fate.how})" if observation.fate.how else ""
    return Judgement(Verdict.PASS, f"{words}{end}: {promise}")


def _later_eras(expect: Callable[[Era], Expectation], predicted: Era, probed: Era | None) -> Sequence[Era]:
    """The later eras that may explain what was seen: the probed one, one that a probe cannot tell from it, or any
    where a defect does not show."""
    suspects = [probed] if probed else []
    suspects += [era for era in eras() if (probed and alike(era, probed)) or expect(predicted).defect]
    return [replace(era, properties=predicted.properties) for era in suspects if era.later_than(predicted)]


def _commits(commits: Sequence[str]) -> str:
    return f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}"


def _named(era: Era) -> str:
    """An era with the commits that made it; the first era is named by the commits that ended it."""
    return f"era {era.name} ({_commits(era.commits) if era.commits else 'before ' + _commits(era.ended_by())})"
