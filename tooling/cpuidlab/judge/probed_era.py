"""Which era a kernel belongs to by what it shows when it is asked directly."""

from cpuidlab.experiment.observation import ACCEPTED, Probe
from cpuidlab.judge.eras import Era, eras
from cpuidlab.kvm.warning import WARNING_LINES


def candidates(probe: Probe) -> tuple[Era, ...]:
    """The eras that fit what a probe showed, in order of history; some cannot be told apart by asking."""
    return tuple(era for era in eras() if _fits(era, probe))


def probed_era(probe: Probe, predicted: Era | None) -> Era | None:
    """The era that a probe showed, None where none fits; where several do, the predicted one, else a sound one."""
    fitting = candidates(probe)
    if predicted in fitting:
        return predicted
    return min(fitting, key=lambda era: era.defect, default=None)


def alike(one: Era, other: Era) -> bool:
    """Whether a probe would see the same of both."""
    return (one.identical, one.changed, one.lines) == (other.identical, other.changed, other.lines)


def _fits(era: Era, probe: Probe) -> bool:
    def due(answer: str) -> int:
        return len(WARNING_LINES) if era.lines and answer == ACCEPTED else 0

    return (
        probe.identical in (era.identical, era.pending)
        and probe.changed == era.changed
        and probe.lines_identical == due(probe.identical)
        and probe.lines_changed == due(probe.changed)
    )
