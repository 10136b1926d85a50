"""What each era promises for the usual situations, for tests to hand to the judge."""

from collections.abc import Callable

from cpuidlab.experiment.observation import ACCEPTED, Model
from cpuidlab.experiment.sweep import REFUSES, TAKES
from cpuidlab.judge.eras import Era
from cpuidlab.judge.verdict import Expectation

Promise = Callable[[Era], Expectation]


def untouched(_: Era) -> Expectation:
    """Nothing is set: silence, and a stable guest."""
    return Expectation(answer=None, model="asked")


def never_run(_: Era) -> Expectation:
    """A vCPU that has not run takes any model, silently, in every era."""
    return Expectation(answer=ACCEPTED, model="asked", guest=None)


def with_l2(era: Era) -> Expectation:
    """Another model for a vCPU that has not run and has nested state loaded; it is not let run."""
    model: Model = "asked" if era.nested == ACCEPTED else "before"
    return Expectation(answer=era.nested, model=model, guest=None)


def same_everywhere(answer: str, model: Model | None = "asked") -> Promise:
    """The same answer in every era, and silence."""
    return lambda _: Expectation(answer=answer, model=model)


def identical(calls: int) -> Promise:
    """`calls` sets of the model that a vCPU which has run already has."""
    return lambda era: Expectation(answer=era.identical, lines=_lines(era, era.identical, calls), model="asked")


def pending(calls: int) -> Promise:
    """As `identical`, while KVM has yet to clear OSXSAVE.

    A refusal is the era's defect and leaves OSXSAVE as it was; the guest is not let boot with it.
    """

    def expect(era: Era) -> Expectation:
        if era.defect and era.pending != era.identical:
            return Expectation(era.pending, notes=("OSXSAVE stale",), guest=None, defect=True)
        lines = _lines(era, era.pending, calls)
        return Expectation(era.pending, lines=lines, model="asked", notes=("OSXSAVE cleared",))

    return expect


def changed(calls: int, deadly: bool = False) -> Promise:
    """`calls` sets of another model on vCPUs that have run; `deadly`: the guest cannot live with it.

    Where an accepted model was put back by further calls these count too.
    """

    def expect(era: Era) -> Expectation:
        accepted = era.changed == ACCEPTED
        return Expectation(
            answer=era.changed,
            lines=_lines(era, era.changed, calls),
            model="asked" if accepted else "before",
            guest="dies" if accepted and deadly else "stable",
        )

    return expect


def every_bit(sets: int) -> Promise:
    """A sweep of one vCPU that has run, with `sets` accepted calls: it is the hook's, so that no call is answered here,
    and the model is the old one afterwards."""

    def expect(era: Era) -> Expectation:
        taken = era.changed == ACCEPTED
        lines = _lines(era, era.changed, sets)
        return Expectation(answer=None, lines=lines, notes=(TAKES if taken else REFUSES,), model="asked")

    return expect


def _lines(era: Era, answer: str, calls: int) -> int:
    return calls if era.lines and answer == ACCEPTED else 0
