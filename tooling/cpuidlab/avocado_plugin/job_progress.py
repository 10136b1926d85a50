"""Count where a job stands: rigs made, cells decided with their verdicts, and about how long the rest takes."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cpuidlab.avocado_plugin.estimate import Outlook, counted, duration
from cpuidlab.avocado_plugin.rig_scheduler import ON_A_MACHINE
from cpuidlab.base.speed import CELL, COLD_CELL, KERNEL, PATCHED, RIG, Speed
from cpuidlab.judge.verdict import Verdict


@dataclass
class Column:
    """One host in one paging mode: how many tests it has, their verdicts, and when the first test ended."""

    tests: int
    verdicts: Counter[str] = field(default_factory=Counter)
    began: float | None = None

    @property
    def done(self) -> int:
        return self.verdicts.total()


class JobProgress:
    """Counts what happens in a job. Rigs are made in threads, so each method may be called from any of them."""

    def __init__(
        self, outlook: Outlook, speed: Speed, at_once: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.speed = speed
        self._at_once = at_once
        self._clock = clock
        self._cell = COLD_CELL if outlook.cold else CELL
        self._tests, self._cells = outlook.tests, outlook.cells
        self._first = Counter({KERNEL: len(outlook.kernels), PATCHED: outlook.patched})
        self._rigs = Counter({"": outlook.rigs})  # to be made, by column; "" while nothing is planned yet
        self._made = Counter[str]()
        self._columns: dict[str, Column] = {}
        self._machines: Mapping[str, str] = {}
        self._lock = threading.RLock()

    def planned(self, rigs: Mapping[str, int]) -> None:
        """Note how many rigs each column really needs; all kernels are there now."""
        with self._lock:
            self._first.clear()
            self._rigs = Counter(rigs)
            self._cells = self._tests * len(rigs)

    def begin(self, tests: Mapping[str, int], machines: Mapping[str, str]) -> None:
        """Note how many tests each column has, in the job's order; the tests begin now.

        `machines` names the real machine of each column, "" for a nested host.
        """
        with self._lock:
            self._machines = machines
            self._columns = {name: Column(number) for name, number in tests.items()}
            self._cells = sum(tests.values())

    def step_ended(self, what: str, seconds: float) -> None:
        """Count a step that ended well, such as "rigs: 5.10-npt-small"."""
        kind, _, label = what.partition(": ")
        with self._lock:
            self.speed.took(kind, seconds)
            self._first[kind] -= 1
            if kind == RIG:
                self._made[label.rpartition("-")[0]] += 1

    def cell_took(self, seconds: float) -> None:
        """Note for how many seconds a test had a slot of the machine."""
        with self._lock:
            self.speed.took(self._cell, seconds)

    def test_ended(self, name: str, verdict: str) -> str | None:
        """Count a test's verdict; return a line about its column where the test was the column's last."""
        with self._lock:
            column = self._columns.setdefault(name, Column(0))
            column.began = column.began or self._clock()
            column.verdicts[verdict] += 1
            if column.done != column.tests:
                return None
            self._rigs[name] = self._made[name]  # rigs that its tests did not need are not waited for any more
            width = max(map(len, self._columns))
            return f"{name:{width}}  {counted(column.done, 'cell')}: {_told(column.verdicts)}"

    def left(self) -> float:
        """Return about how many seconds the rest takes."""
        with self._lock:
            first = sum(self.speed.seconds(kind) * max(0, number) for kind, number in self._first.items() if number > 0)
            cell, alone = self.speed.seconds(self._cell), self._left_on_machines()
            nested = self._cells_left() - alone.total()
            here = (self._rigs_left() * self.speed.seconds(RIG) + nested * cell) / min(self._at_once, max(1, nested))
            return first + max(here, max(alone.values(), default=0) * cell / ON_A_MACHINE)

    def line(self) -> str:
        """Return where the job stands, in one line."""
        with self._lock:
            made, done = self._made.total(), self._cells - self._cells_left()
            rigs = f"rigs {made} of {made + self._rigs_left()}, " if made or self._rigs_left() else ""
            verdicts = sum((column.verdicts for column in self._columns.values()), Counter[str]())
            counts = f": {_told(verdicts)}" if verdicts else ""
            left = f"; {duration(self.left())} left" if self._cells_left() else ""
            return f"{rigs}cells {done} of {self._cells}{counts}{left}"

    def _rigs_left(self) -> int:
        if "" in self._rigs:
            return max(0, self._rigs[""] - self._made.total())
        return sum(max(0, number - self._made[name]) for name, number in self._rigs.items())

    def _left_on_machines(self) -> Counter[str]:
        """Return how many cells are left on each real machine."""
        left = Counter[str]()
        for name, column in self._columns.items():
            if machine := self._machines.get(name):
                left[machine] += max(0, column.tests - column.done)
        return left

    def _cells_left(self) -> int:
        return max(0, self._cells - sum(column.done for column in self._columns.values()))


def _told(verdicts: Mapping[str, int]) -> str:
    return ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in Verdict if verdicts.get(verdict))
