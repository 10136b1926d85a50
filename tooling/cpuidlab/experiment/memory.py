"""How much memory a host's kernel uses, and whether it is more after many calls.

Pages are counted that /proc/meminfo does not account for: neither free, nor in the page cache, nor a process's, nor
slabs. Free memory alone does not tell of a loss: a process or a cache may give back as much meanwhile, and one round of
three was seen in which 40 MB of lost pages did not show. Nor is each fall of it a loss: now and then it fell by 16 MiB
where nothing is lost, presumably by khugepaged, which looks through 4096 pages at a time.

Measured on nested hosts of 5.10 and 6.1, beside other load: over ten thousand calls that lose nothing slabs grew by at
most 24 KiB, a cache by fewer than 60 objects, vmalloc by nothing, and the unaccounted pages by 248 KiB. A model that is
lost has about 1200 bytes: ten thousand of them are 12 MB or more. A loss must show in the median round: one round that
hides it, or one that shows something else, decides nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from cpuidlab.base.errors import LabError
from cpuidlab.experiment.calls import Calls
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.note import Note

CALLS = 10_000  # in a row
ROUNDS = 3
_READ = "cat /proc/meminfo; cat /proc/slabinfo 2>/dev/null || true"  # only root may read the second
# What a row of calls must add to a figure to be a loss, in objects of one cache and in KiB: an object for every other
# call, however small, 64 bytes a call where objects cannot be counted, and half a page.
_LEAST = {
    "objects": CALLS // 2,
    "Slab": CALLS * 64 // 1024,
    "VmallocUsed": CALLS * 64 // 1024,
    "unaccounted": CALLS * 2,
}
# the figures of pages of which it is known whose they are
_GIVEN = ("MemFree", "Buffers", "Cached", "SwapCached", "AnonPages", "Slab")
_NEEDED = {"MemTotal", "VmallocUsed", *_GIVEN}


@dataclass(frozen=True)
class HostMemory:
    """What the host's kernel uses: KiB by the names of /proc/meminfo, and objects by the names of its slab caches."""

    kib: dict[str, int]
    objects: dict[str, int]

    @property
    def unaccounted(self) -> int:
        """The KiB that /proc/meminfo does not account for: the kernel's own pages, and what is lost."""
        return self.kib["MemTotal"] - sum(self.kib[name] for name in _GIVEN)

    def growth_since(self, before: "HostMemory") -> dict[str, int]:
        """Return by how much each figure of `_LEAST` has grown, and each cache's objects as `objects NAME`."""
        grown = {name: self.kib[name] - before.kib[name] for name in ("Slab", "VmallocUsed")}
        grown["unaccounted"] = self.unaccounted - before.unaccounted
        return grown | {f"objects {name}": count - before.objects.get(name, 0) for name, count in self.objects.items()}


def parse(text: str) -> HostMemory:
    """Read /proc/meminfo and, if it follows, /proc/slabinfo. Raises LabError where a figure is missing."""
    kib: dict[str, int] = {}
    objects: dict[str, int] = {}
    for words in (line.split() for line in text.splitlines()):
        if len(words) >= 2 and words[0].endswith(":") and words[1].isdigit():
            kib[words[0].removesuffix(":")] = int(words[1])
        elif len(words) > 6 and words[1].isdigit():
            objects[words[0]] = int(words[1])
    missing = _NEEDED - set(kib)
    if missing:
        raise LabError(f"the host's /proc/meminfo has no {', '.join(sorted(missing))}", text)
    return HostMemory(kib, objects)


def note_memory(guest: Guest, *kinds: Calls) -> str:
    """Make ten thousand calls of each kind in a row, several times; note whether one kind loses memory.

    Returns the answer to the last call. Raises LabError where the figures move as much without any call.
    """
    _read(guest)  # what the first look itself needs stays
    losses: list[str] = []
    for kind in kinds:
        idle, busy = [], []
        for _ in range(ROUNDS):
            looks = [_read(guest), _read(guest)]
            kind.make_all(guest, CALLS)
            looks.append(_read(guest))
            idle.append(looks[1].growth_since(looks[0]))
            busy.append(looks[2].growth_since(looks[1]))
        guest.write_down(f"{CALLS} times {kind}, grown: {_figures(busy)}")
        lost = lost_in_most_rounds(idle, busy)
        if lost:
            figures = ", ".join(f"{name} {count}" for name, count in lost.items())
            losses.append(f"{CALLS} calls of {kind} add, by the median of {ROUNDS} rounds: {figures}")
    guest.note(Note.MEMORY_LOST if losses else Note.MEMORY_KEPT, *losses)
    return guest.answers[-1].answer


def lost_in_most_rounds(idle: Sequence[dict[str, int]], busy: Sequence[dict[str, int]]) -> dict[str, int]:
    """Return what calls add to the host's memory by the median round; empty where nothing is lost.

    `idle` and `busy` have the growth of each round without and with calls. Raises LabError where a figure that grows
    with calls also grows without any, by half of what a loss must be.
    """
    lost = {name: count for name in busy[0] if (count := _typical(name, busy)) >= _least(name)}
    for name in lost:
        alone = _typical(name, idle)
        if alone >= _least(name) // 2:
            raise LabError(
                f"the host's memory grows without any call: {name} by {alone}; nothing can be said of a loss"
            )
    return lost


def _typical(name: str, rounds: Sequence[dict[str, int]]) -> int:
    return median_low(growth.get(name, 0) for growth in rounds)


def _least(name: str) -> int:
    return _LEAST["objects" if name.startswith("objects ") else name]


def _read(guest: Guest) -> HostMemory:
    return parse(guest.rig.host.run(_READ, guest.deadline))


def _figures(grown: Sequence[dict[str, int]]) -> str:
    """The figures in KiB, and how many objects the cache that grew most has got, round by round."""
    texts = []
    for growth in grown:
        counts = {name: count for name, count in growth.items() if name.startswith("objects ")}
        most = max(counts, key=lambda name: counts[name], default="")
        figures = ", ".join(f"{name} {count} KiB" for name, count in growth.items() if name not in counts)
        texts.append(f"{figures}" + (f", {counts[most]} {most}" if most else ", no counts of objects"))
    return "; ".join(texts)
