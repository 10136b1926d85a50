"""What was seen in one test: plain data, to JSON and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from cpuidlab.base.errors import UsageError
from cpuidlab.experiment.note import Note
from cpuidlab.kvm.kmsg import Record, matching
from cpuidlab.kvm.vcpu_state import Difference
from cpuidlab.kvm.warning import WARNING_LEVEL, WARNING_LINES

ACCEPTED = "accepted"
SWEEP, REPLUG = "sweep", "replug"  # what stands where a call asks for a change that has no name
Model = Literal["asked", "before", "other"]


@dataclass(frozen=True)
class VcpuAnswer:
    """The answer to one KVM_SET_CPUID or KVM_SET_CPUID2: "accepted" or the name of an errno."""

    vcpu: int
    answer: str


@dataclass(frozen=True)
class Touched:
    """A call after which the state of the vCPUs was not as before, but for what moves by itself.

    `vcpu` was called, by KVM_SET_CPUID (`call` 1) or KVM_SET_CPUID2 (2), and the answer is as in `VcpuAnswer`.
    `change` is what was asked for; an accepted call without a change set what was there.
    """

    vcpu: int
    call: int
    answer: str
    change: str
    differences: tuple[Difference, ...]

    @property
    def name(self) -> str:
        """The name of the call; a sweep makes many."""
        return f"KVM_SET_CPUID{'2' if self.call == 2 else ''}" if self.change != SWEEP else SWEEP

    @property
    def may_alter(self) -> bool:
        """Whether the call changed the CPUID, so that it may alter more than that."""
        return self.answer == ACCEPTED and bool(self.change)


@dataclass(frozen=True)
class GuestReport:
    """The guest's health after the change; `troubles` says why it is not stable."""

    stable: bool
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fate:
    """Whether QEMU and its guest live at the end; if not, how they ended, how many seconds after the change.

    A guest that hangs for good is not alive either; its QEMU has no exit code.
    """

    alive: bool
    how: str | None = None
    seconds: float | None = None
    exit_code: int | None = None


@dataclass(frozen=True)
class Unseen:
    """Why nobody could look at a guest that may well live; `evidence` holds the longer story."""

    why: str
    evidence: str = ""


@dataclass(frozen=True)
class Observation:
    """Everything seen; `host_log` is what the host's kernel logged since the mark.

    `answers` is empty where a test called nothing by itself, and has one for a row of calls that were answered alike.
    `sweep_calls` is how many calls KVM accepted beside: those of sweeps, and of such rows.
    `figures` are sentences with what was measured, where a test noted that it is not as it should be.
    `model` and `guest` are None where nobody was to look, and where the guest had ended before. `unseen` says why
    nobody could look at the guest, `log_refused` why nobody could read the host's log.
    """

    answers: tuple[VcpuAnswer, ...]
    model: Model | None
    host_log: tuple[Record, ...]
    guest: GuestReport | None
    fate: Fate
    notes: tuple[Note, ...] = ()
    sweep_calls: int = 0
    unseen: Unseen | None = None
    log_refused: str = ""
    touched: tuple[Touched, ...] = ()
    figures: tuple[str, ...] = ()

    @property
    def accepted_calls(self) -> int:
        """How many calls of KVM_SET_CPUID and KVM_SET_CPUID2 KVM accepted."""
        return self.sweep_calls + sum(answer.answer == ACCEPTED for answer in self.answers)

    def line_count(self, line: str) -> int:
        """How often the host logged exactly this line as a warning."""
        return len(matching(self.host_log, line, WARNING_LEVEL))

    @property
    def warned(self) -> bool:
        """Whether the host logged at least one of the two warning lines."""
        return any(self.line_count(line) for line in WARNING_LINES)


@dataclass(frozen=True)
class Probe:
    """What a kernel showed when asked directly on a vCPU that has run: first the identical CPUID, then a changed one.

    The lines are how many of the two different warning lines appeared (0 to 2).
    """

    identical: str
    changed: str
    lines_identical: int
    lines_changed: int


def which_model(seen: object, asked: object, before: object) -> Model:
    """Say which model was read back. If the requested model equals the old one, the answer is "asked"."""
    if seen == asked:
        return "asked"
    return "before" if seen == before else "other"


def to_json(observation: Observation) -> str:
    """The observation as JSON text; `from_json` reads it back."""
    return json.dumps(asdict(observation), indent=1) + "\n"


def from_json(text: str) -> Observation:
    """Read back what `to_json` wrote; UsageError where the text is something else."""
    try:
        return _observation(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"this is not an observation.json: {type(error).__name__} {error}") from error


def touched_from(data: Mapping[str, Any]) -> Touched:
    """Return a `Touched` from its JSON object. Raises TypeError or KeyError where it is none."""
    return Touched(**{**data, "differences": tuple(Difference(**one) for one in data["differences"])})


def _observation(data: dict[str, Any]) -> Observation:
    if data["model"] is not None and data["model"] not in get_args(Model):
        raise ValueError(f"model {data['model']!r}")
    guest, unseen = data["guest"], data.get("unseen")
    return Observation(
        answers=tuple(VcpuAnswer(**answer) for answer in data["answers"]),
        model=data["model"],
        host_log=tuple(Record(**record) for record in data["host_log"]),
        guest=guest and GuestReport(guest["stable"], tuple(guest["troubles"])),
        fate=Fate(**data["fate"]),
        notes=tuple(Note(note) for note in data["notes"]),
        sweep_calls=data.get("sweep_calls", 0),
        unseen=Unseen(**unseen) if unseen else None,
        log_refused=data.get("log_refused", ""),
        touched=tuple(touched_from(one) for one in data.get("touched", ())),
        figures=tuple(data.get("figures", ())),
    )
