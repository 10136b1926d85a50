"""How long a call takes beside an identical one of the same run.

Measured under TCG, on two cores and beside other load: the medians of rows of 10,000 calls were 3.8 to 3.9 us for
identical and for refused calls, 1.4 to 6.2 us for failing ones, and their ratios moved by a few per cent.
"""

from collections.abc import Sequence
from statistics import median

from cpuidlab.experiment.calls import Calls
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.note import Note
from cpuidlab.kvm.hook_answers import Row

CALLS = 500  # in a row
ROUNDS = 5
MOST = 10.0  # times an identical call; a call that also waits for something takes hundreds of times as long


def note_slowness(guest: Guest, *kinds: Calls) -> None:
    """Make rows of each kind and of identical calls in turn, and note whether one kind is slower. The VM is stopped."""
    taken: dict[Calls, list[tuple[Row, Row]]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind in kinds:
            row = kind.make(guest, CALLS)
            taken[kind].append((row, Calls(vcpu=kind.vcpu).make(guest, CALLS)))
    slower = []
    for kind, rows in taken.items():
        times = times_as_long(rows)
        told = f"{kind} took {in_words(median(row.median for row, _ in rows))}, {times:,.1f} times an identical call"
        guest.write_down(told)
        slower += [told] if times > MOST else []
    guest.note(Note.SLOWER if slower else Note.NO_SLOWER, *slower)


def times_as_long(rows: Sequence[tuple[Row, Row]]) -> float:
    """How many times as long as an identical call: the median round's, by a row's median or by its slowest tenth."""
    typical = median(row.median / same.median for row, same in rows)
    slow = median(row.ninetieth / same.ninetieth for row, same in rows)
    return max(typical, slow)


def in_words(seconds: float) -> str:
    """A time in the unit that fits, such as `3.8 us`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds * 1e9:.0f} ns"
