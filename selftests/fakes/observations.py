"""Observations for the selftests to judge."""

from collections.abc import Sequence

from cpuidlab.experiment.observation import Fate, GuestReport, Model, Observation, VcpuAnswer
from cpuidlab.kvm.kmsg import Record
from cpuidlab.kvm.warning import WARNING_LINES

STABLE, SICK = GuestReport(True), GuestReport(False, ("oops: Oops: 0009 [#1]",))
ALIVE, DEAD = Fate(True), Fate(False, "triple fault", 0.4, 0)


def log(*texts: str, level: int = 4) -> tuple[Record, ...]:
    return tuple(Record(level, 0, 100 + number, 1.0, text) for number, text in enumerate(texts))


def seen(
    *answers: str,
    texts: Sequence[str] = (),
    level: int = 4,
    model: Model | None = "asked",
    guest: GuestReport | None = STABLE,
    fate: Fate = ALIVE,
) -> Observation:
    told = tuple(VcpuAnswer(vcpu, answer) for vcpu, answer in enumerate(answers))
    return Observation(told, model, log(*texts, level=level), guest, fate)


SILENT = seen("accepted", "accepted")
WARNED = seen("accepted", "accepted", texts=WARNING_LINES * 2)
REFUSED = seen("EINVAL", "EINVAL", model="before")
