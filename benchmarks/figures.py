"""The arithmetic of the benchmark: from repeated measurements in seconds to ratios with their spread."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True)
class Ratio:
    """A figure: the median of one measurement divided by the median of another, both repeated in turns.

    `target` is what the project asks of it, None where it asks nothing: `better` says whether the figure has to reach
    it or to stay below it.
    """

    name: str
    text: str
    over: str
    under: str
    target: float | None = None
    better: Literal["higher", "lower"] = "lower"


@dataclass(frozen=True)
class Figure:
    """What was measured for a Ratio; `low` and `high` are the extremes of the ratios of the single repetitions."""

    name: str
    text: str
    value: float
    low: float
    high: float
    repetitions: int
    target: float | None
    better: str

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.better == "higher" else self.value <= self.target


def figure(ratio: Ratio, seconds: Mapping[str, Sequence[float]]) -> Figure:
    """Divide. Both measurements have as many repetitions; the value lies between `low` and `high`.

    Raises ValueError where they do not, or where a time is not above zero.
    """
    over, under = seconds[ratio.over], seconds[ratio.under]
    if not over or min(*over, *under) <= 0:
        raise ValueError(f"{ratio.name}: times must be above zero, and there must be some")
    single = [a / b for a, b in zip(over, under, strict=True)]
    return Figure(
        ratio.name, ratio.text, median(over) / median(under), min(single), max(single), len(single),
        ratio.target, ratio.better,
    )  # fmt: skip


def as_json(figures: Sequence[Figure], seconds: Mapping[str, Sequence[float]], about: dict[str, Any]) -> dict[str, Any]:
    """Everything as plain data; the seconds are this machine's alone."""
    return {
        "schema": 1,
        "about": about,
        "ratios": [asdict(one) | {"met": one.met} for one in figures],
        "seconds_on_this_machine": {
            name: {"median": median(times), "min": min(times), "max": max(times), "all": list(times)}
            for name, times in seconds.items()
        },
    }


def as_text(figures: Sequence[Figure], seconds: Mapping[str, Sequence[float]]) -> str:
    """Two tables for a terminal: the ratios, then the seconds they come from."""
    lines = [f"{'ratio':52} {'median':>7} {'spread':>15}  target"]
    for one in figures:
        spread = f"{one.low:.2f} - {one.high:.2f}"
        lines.append(f"{one.text:52} {one.value:7.2f} {spread:>15}  {_target(one)}")
    lines += ["", f"{'seconds, on this machine only':52} {'median':>7} {'spread':>15}"]
    for name, times in seconds.items():
        spread = f"{min(times):.2f} - {max(times):.2f}"
        lines.append(f"{name:52} {median(times):7.2f} {spread:>15}")
    return "\n".join(lines)


def _target(one: Figure) -> str:
    if one.target is None:
        return ""
    bound = "at least" if one.better == "higher" else "at most"
    return f"{bound} {one.target:g}: {'met' if one.met else 'MISSED'}"
