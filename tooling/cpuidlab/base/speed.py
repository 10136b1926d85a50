"""Keep in the cache how long this machine takes for the parts of a job, as measured in its last job."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cpuidlab.base.atomic import write_atomically
from cpuidlab.base.paths import cache_dir

CELL, COLD_CELL, RIG, KERNEL, PATCHED = "cell", "cold cell", "rigs", "kernels", "patched"
# Where nothing was measured yet: the seconds that each takes while as many run as the machine has cores (see
# `parallel`). On two cores of 2025 rigs took 15 to 45 and cells 3 to 8, depending on what else ran there.
DEFAULTS: Mapping[str, float] = {CELL: 6.0, COLD_CELL: 45.0, RIG: 30.0, KERNEL: 20.0, PATCHED: 60.0}
KNOWN_WEIGHT = 3  # the value from before counts as much as this number of measurements of this job
ENOUGH = {CELL: 10, COLD_CELL: 3, RIG: 3}  # fewer are not kept for the next job


class Speed:
    """Seconds for one thing of each kind: the value from before, and more and more what this job has measured."""

    def __init__(self, known: Mapping[str, float]) -> None:
        self.known = dict(known)
        self._sums, self._counts = defaultdict[str, float](float), Counter[str]()

    def took(self, kind: str, seconds: float) -> None:
        """Count one more measurement; a kind that no forecast needs is left out."""
        if kind in DEFAULTS:
            self._sums[kind] += seconds
            self._counts[kind] += 1

    def seconds(self, kind: str) -> float:
        """Return what one thing of that kind takes."""
        before = self.known.get(kind, DEFAULTS[kind])
        return (before * KNOWN_WEIGHT + self._sums[kind]) / (KNOWN_WEIGHT + self._counts[kind])

    def is_measured(self, kind: str) -> bool:
        """Tell whether an earlier job on this machine has measured the kind."""
        return kind in self.known

    def measured(self) -> dict[str, float]:
        """Return what to keep: this job's measurements, and the old values of kinds that it measured too rarely."""
        new = {k: round(self._sums[k] / n, 2) for k, n in self._counts.items() if n >= ENOUGH.get(k, 1)}
        return self.known | new


def read() -> Speed:
    """Return what the last jobs on this machine have measured; nothing where none has, or on another machine."""
    try:
        data = json.loads(_file().read_text())
        known = {str(kind): float(seconds) for kind, seconds in data["seconds"].items() if kind in DEFAULTS}
        return Speed(known if data["machine"] == machine() else {})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Speed({})


def keep(speed: Speed) -> None:
    """Write down what this job has measured, whole or not at all; a cache that may only be read does as well."""
    with suppress(OSError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_file(), json.dumps({"machine": machine(), "seconds": speed.measured()}, indent=1) + "\n")


def machine() -> str:
    """Return what tells this machine from others with the same cache: its processor, and how many cores we may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{len(os.sched_getaffinity(0))} x {model}"


def _file() -> Path:
    return cache_dir() / "speed.json"
