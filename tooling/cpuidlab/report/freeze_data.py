"""The freeze part of a map: to plain data and back."""

from typing import Any

from cpuidlab.experiment.freeze import MSR_PHASES, FreezeMap, FrozenMsr
from cpuidlab.experiment.freeze_table import PHASES
from cpuidlab.experiment.sweep import OUTCOMES
from cpuidlab.judge.freeze_rules import msr_name

_ALL = (1 << 64) - 1


def to_data(found: FreezeMap) -> dict[str, object]:
    """The answers by call and phase, and the feature MSRs; values and masks are hexadecimal text."""
    answers = {name: dict(zip(PHASES, words, strict=True)) for name, words in found.answers.items()}
    return {"calls": answers, "msrs": [_msr_data(one) for one in found.msrs]}


def from_data(data: dict[str, Any]) -> FreezeMap:
    """Read what `to_data` made. Raises ValueError, TypeError, KeyError or AttributeError for anything else."""
    answers = {name: tuple(str(words[phase]) for phase in PHASES) for name, words in data["calls"].items()}
    return FreezeMap(answers, tuple(_msr(one) for one in data["msrs"]))


def _msr_data(one: FrozenMsr) -> dict[str, object]:
    phases = {
        str(phase): {str(outcome): f"0x{one.bits[phase][outcome]:x}" for outcome in OUTCOMES}
        | {"same": one.same[phase]}
        for phase in MSR_PHASES if phase in one.bits
    }  # fmt: skip
    return {"index": f"0x{one.index:x}", "name": msr_name(one.index), "value": f"0x{one.value:x}", **phases}


def _msr(data: dict[str, Any]) -> FrozenMsr:
    tried = [phase for phase in MSR_PHASES if phase in data or phase != "in L2"]
    bits = {phase: {one: int(data[phase][one], 16) for one in OUTCOMES} for phase in tried}
    same = {phase: bool(data[phase]["same"]) for phase in tried}
    if any(sum(masks.values()) != _ALL for masks in bits.values()):
        raise ValueError(f"MSR {data['index']} does not have each bit in one mask")
    return FrozenMsr(int(data["index"], 16), int(data["value"], 16), bits, same)
