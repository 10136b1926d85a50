"""An observation in lines for people: what KVM answered, what the host logged, what became of the guest."""

from collections import Counter
from collections.abc import Iterable, Mapping

from cpuidlab.experiment.observation import Model, Observation
from cpuidlab.experiment.words import NOTE_WORDS

_MODELS: Mapping[Model | None, str] = {
    "asked": "what was asked for",
    "before": "what it was before",
    "other": "neither what was asked for nor what it was before",
    None: "not read back",
}


def answer_lines(seen: Observation) -> list[str]:
    """Say what KVM answered on which vCPU."""
    return _counted(f"vCPU {answer.vcpu}: {answer.answer}" for answer in seen.answers) or [
        "KVM_SET_CPUID was not called"
    ]


def log_lines(seen: Observation) -> list[str]:
    """Return the host's log, each line with its level."""
    return _counted(f"<{record.level}> {record.text}" for record in seen.host_log) or ["nothing"]


def guest_lines(seen: Observation) -> list[str]:
    """Say what became of the guest: how it ended, or why it is not stable."""
    if not seen.fate.alive:
        seconds = "" if seen.fate.seconds is None else f" after {seen.fate.seconds:.1f} s"
        code = "" if seen.fate.exit_code is None else f"; QEMU's exit code {seen.fate.exit_code}"
        return [f"died{seconds}: {seen.fate.how}{code}"]
    if seen.guest is None:
        return ["not looked at"]
    return ["stable"] if seen.guest.stable else list(seen.guest.troubles)


def model_lines(seen: Observation) -> list[str]:
    """Say which CPUID was read back from KVM."""
    return [_MODELS[seen.model]]


def state_lines(seen: Observation) -> list[str]:
    """Say what calls changed in the state of the vCPUs, beside what moves by itself."""
    return _counted(
        f"{call.name} on vCPU {call.vcpu} ({call.change or 'identical'}), {call.answer}: vCPU {one.vcpu}: {one}"
        for call in seen.touched
        for one in call.differences
    )


def note_lines(seen: Observation) -> list[str]:
    """Say what the test noted, in the order of time."""
    words = [NOTE_WORDS[note] for note in seen.notes]
    return [*words[:1], *(f"then {later}" for later in words[1:])]


def _counted(lines: Iterable[str]) -> list[str]:
    """Return each different line once, with how often it came."""
    return [line if count == 1 else f"{line}  (x {count})" for line, count in Counter(lines).items()]
