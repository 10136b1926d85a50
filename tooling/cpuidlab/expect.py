"""What each era promises for the usual situations, for tests to hand to the judge."""

from collections.abc import Callable

from cpuidlab.eras import Era
from cpuidlab.observation import ACCEPTED
from cpuidlab.verdict import Expectation

Promise = Callable[[Era], Expectation]


def untouched(_: Era) -> Expectation:
    """Nothing is set: silence, and a stable guest."""
    return Expectation(answer=None, model="asked")


def never_run(_: Era) -> Expectation:
    """A vCPU that has not run takes any model, silently, in every era."""
    return Expectation(answer=ACCEPTED, model="asked", guest=None)


def identical(calls: int) -> Promise:
    """`calls` sets of the model that a vCPU which has run already has."""
    return lambda era: Expectation(answer=era.identical, lines=_lines(era, era.identical, calls), model="asked")


def changed(calls: int, deadly: bool = False) -> Promise:
    """`calls` sets of another model on vCPUs that have run; `deadly`: the guest cannot live with it."""

    def expect(era: Era) -> Expectation:
        accepted = era.changed == ACCEPTED
        return Expectation(
            answer=era.changed,
            lines=_lines(era, era.changed, calls),
            model="asked" if accepted else "before",
            guest="dies" if accepted and deadly else "stable",
        )

    return expect


def _lines(era: Era, answer: str, calls: int) -> int:
    return calls if era.lines and answer == ACCEPTED else 0
