"""Observations for the selftests to judge."""

from collections.abc import Sequence

from cpuidlab.experiment.observation import Fate, GuestReport, Model, Observation, Touched, VcpuAnswer
from cpuidlab.kvm.kmsg import Record
from cpuidlab.kvm.vcpu_state import Difference
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
    touched: Sequence[Touched] = (),
) -> Observation:
    told = tuple(VcpuAnswer(vcpu, answer) for vcpu, answer in enumerate(answers))
    return Observation(told, model, log(*texts, level=level), guest, fate, touched=tuple(touched))


def touch(vcpu: int, *fields: str, answer: str = "EINVAL", change: str = "nx=off", call: int = 2) -> Touched:
    """A call on vCPU 0 that cleared these debug registers of a vCPU."""
    cleared = tuple(Difference(vcpu, "debugregs", field, "0x400", "0x0") for field in fields)
    return Touched(0, call, answer, change, cleared)


SILENT = seen("accepted", "accepted")
WARNED = seen("accepted", "accepted", texts=WARNING_LINES * 2)
REFUSED = seen("EINVAL", "EINVAL", model="before")
