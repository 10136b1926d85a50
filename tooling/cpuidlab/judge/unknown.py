"""Judge a kernel of which nothing is predicted: is what was seen consistent with one of the eras that are possible?"""

from collections.abc import Sequence

from cpuidlab.experiment.observation import Observation, Probe
from cpuidlab.judge.eras import Era
from cpuidlab.judge.expectations import Promise
from cpuidlab.judge.probed_era import candidates
from cpuidlab.judge.verdict import Judgement, Verdict, judge


def judge_unknown(
    expect: Promise, suspects: Sequence[Era], observation: Observation, *, promise: str, rerun: str
) -> Judgement:
    """Judge by each of `suspects`, the possible eras that fit what the kernel showed when it was asked; at least one.

    A sound era counts more than one with a defect. FAIL is said only where none of them fits; where one may fit, but
    something was not seen, that is said.
    """
    ordered = sorted(suspects, key=lambda era: era.defect)
    found = [judge(expect, era, None, observation, promise=promise, rerun=rerun) for era in ordered]
    for era, judgement in zip(ordered, found, strict=True):
        if judgement.verdict in (Verdict.PASS, Verdict.KNOWN):
            return Judgement(judgement.verdict, f"{judgement.reason}; consistent with era {era.name}")
    unseen = next((each for each in found if each.verdict in (Verdict.ERROR, Verdict.SKIP)), None)
    if unseen is not None:
        return unseen
    names = ", ".join(era.name for era in ordered)
    return Judgement(Verdict.FAIL, f"{found[0].reason}\nconsistent with none of the eras that are possible: {names}")


def suspects_of(among: Sequence[Era], shown: Probe | None) -> Sequence[Era]:
    """The eras of `among` that fit what the kernel has shown; all of them where it was not asked, or fits none."""
    fitting = candidates(shown) if shown else among
    return [era for era in among if era in fitting] or among
