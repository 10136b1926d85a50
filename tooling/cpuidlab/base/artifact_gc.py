"""What lies in the cache: by kind, how large, what is stale, and how it is kept small."""

import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base import artifacts
from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import cache_dir

BOOTABLE = "bootable"  # images of hosts, which only a cold boot reads
THAWABLE = "thawable"  # frozen rigs laid out to be thawed; any of them can be laid out again in seconds
# Of the whole cache: what can be had again in a second stays as long as there is room for it.
BUDGET_BYTES = 5_000_000_000
JUST_NOW_SECONDS = 20  # whoever was told of a thawable rig or an image has opened it by then
_QUICK = (BOOTABLE, THAWABLE)
_CHEAP_FIRST = (
    *_QUICK, "probes", "rigs", "probe", "compiled", "images", "patched", "kbuild", "headers", "toolchain", "kernels",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One thing in the cache, whole or still being made: `used` is when it was last asked for. Where nothing is
    content-hashed, as in `apt`, a whole kind is one entry. `stale` is what today's inputs would not make."""

    kind: str
    path: Path
    size: int
    used: float
    stale: bool

    @property
    def is_made(self) -> bool:
        """Whether it is content-hashed, so that it may go and is made again."""
        return artifacts.label_of(self.path) is not None


def entries() -> list[Entry]:
    """Everything that is in the cache now, kind by kind."""
    root = cache_dir()
    kinds = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [entry for kind in kinds for entry in _of_kind(kind)]


def make_room(budget: int = BUDGET_BYTES) -> None:
    """Where the cache is over its budget, drop what is stale and has been so for a while, of every kind, and then what
    is made again in a second, the longest unused first."""
    there, now = entries(), time.time()
    too_much = _sum(there) - budget
    gone = _shrink([e for e in there if e.stale and e.is_made and e.used < now - artifacts.YOUNG_SECONDS], too_much)
    idle = [e for e in there if e.kind in _QUICK and e.used < now - JUST_NOW_SECONDS and e not in gone]
    _shrink(idle, too_much - _sum(gone))


def prune(everything: bool = False, max_size: int | None = None) -> list[Entry]:
    """Drop what is stale; then, where the rest is larger than `max_size`, what is soonest made again and longest
    unused; or all that can be made again. What is used stays. Returns what has gone."""
    there = [entry for entry in entries() if entry.is_made]
    gone = [entry for entry in there if (entry.stale or everything) and artifacts.drop(entry.path)]
    if max_size is not None:
        left = entries()
        too_much = _sum(left) - max_size
        gone += _shrink([entry for entry in left if entry.is_made], too_much)
    return gone


def shown(there: Sequence[Entry], as_json: bool) -> str:
    """The cache for people, a line for each kind and each stale thing; or everything as JSON."""
    if as_json:
        rows = [
            {"kind": e.kind, "name": e.path.name, "bytes": e.size, "used": int(e.used), "stale": e.stale} for e in there
        ]
        return json.dumps({"cache": str(cache_dir()), "entries": rows}, indent=2)
    kinds = dict.fromkeys(entry.kind for entry in there)
    groups = {kind: [entry for entry in there if entry.kind == kind] for kind in kinds}
    lines = [f"{kind:10} {len(found):5} {_human(_sum(found)):>10}" for kind, found in groups.items()]
    stale = [entry for entry in there if entry.stale]
    lines.append(f"{'all':10} {len(there):5} {_human(_sum(there)):>10}  in {cache_dir()}")
    lines += [f"stale      {_human(entry.size):>16}  {entry.kind}/{entry.path.name}" for entry in stale]
    if stale:
        lines.append(f"'cpuidlab cache prune' frees {_human(_sum(stale))}")
    return "\n".join(lines)


def bytes_of(text: str) -> int:
    """The number of bytes that a size such as 6G, 500M or 123456 stands for; UsageError where it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.strip().upper())
    if not found:
        raise UsageError(f"'{text}' is no size; give one such as 6G or 500M")
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2] or " "))


def freed(gone: Sequence[Entry]) -> str:
    """What was dropped, in one line."""
    return f"{len(gone)} dropped, {_human(_sum(gone))} freed"


def _sum(there: Iterable[Entry]) -> int:
    return sum(entry.size for entry in there)


def _shrink(candidates: Iterable[Entry], too_much: int) -> list[Entry]:
    gone: list[Entry] = []
    for entry in sorted(candidates, key=lambda entry: (_rank(entry.kind), entry.used)):
        if _sum(gone) >= too_much:
            break
        if artifacts.drop(entry.path):
            gone.append(entry)
    return gone


def _rank(kind: str) -> int:
    return _CHEAP_FIRST.index(kind) if kind in _CHEAP_FIRST else len(_CHEAP_FIRST)


def _of_kind(kind: Path) -> list[Entry]:
    made = [path for path in sorted(kind.iterdir()) if path.is_dir() and artifacts.label_of(path)]
    if all(path.suffix == ".lock" for path in kind.iterdir()):
        return []
    unfinished = sorted(kind.glob("*.partial"))
    if not made and not unfinished:
        return [Entry(kind.name, kind, _size(kind), kind.stat().st_mtime, False)]
    current = _current(kind, made)
    found = []
    for path in made + unfinished:
        try:
            stale = path in made and path.name not in current
            found.append(Entry(kind.name, path, _size(path), path.stat().st_mtime, stale))
        except FileNotFoundError:  # another process has dropped it
            continue
    return found


def _current(kind: Path, made: Iterable[Path]) -> set[str]:
    """The names that are not stale: of kernels what a host spec is pinned to, else of each label the last one used."""
    if kind.name == "kernels":
        found = set()
        for pin in (kind / "pins").glob("*"):
            with suppress(FileNotFoundError):  # what another process writes aside is gone at once
                found.add(pin.read_text())
        return found
    newest: dict[str | None, tuple[float, str]] = {}
    for path in made:
        label, this = artifacts.label_of(path), (_used(path), path.name)
        newest[label] = max(newest.get(label, this), this)
    return {name for _, name in newest.values()}


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: Path) -> int:
    """What it takes on the disk; a file with two names counts twice."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):  # another process has dropped it
                total += Path(folder, name).lstat().st_blocks * 512
    return total


def _human(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
