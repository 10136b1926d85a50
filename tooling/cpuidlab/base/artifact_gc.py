"""Keep the cache small: see what lies in it, by kind, how large and whether stale, and drop what costs least."""

import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base import artifacts, kept_digests
from cpuidlab.base.artifact_kinds import Kind, label_of, registered
from cpuidlab.base.paths import cache_dir

BUDGET_BYTES = 5_000_000_000  # of the whole cache; things that are made again in a second fill it up to here
JUST_NOW_SECONDS = 20  # a process that was given a thing of a quick kind has opened its files within this time


@dataclass(frozen=True)
class Entry:
    """One thing in the cache, whole or still being made: `used` is when it was last asked for, in seconds of Unix time.

    A folder that no kind is registered for, such as `apt`, is one entry as a whole. `stale` is what today's inputs
    would not make.
    """

    kind: str
    path: Path
    size: int
    used: float
    stale: bool

    @property
    def is_made(self) -> bool:
        """Tell whether the thing is whole and content-hashed, so that it may go and can be made again."""
        return label_of(self.path) is not None

    @property
    def cost(self) -> float:
        """Return what the loss of the thing costs, see Kind."""
        kind = registered(self.kind)
        return kind.cost if kind else float("inf")

    @property
    def is_quick(self) -> bool:
        """Tell whether the thing is made again in a second."""
        kind = registered(self.kind)
        return kind is not None and kind.is_quick


def entries() -> list[Entry]:
    """Return everything that is in the cache now, kind by kind."""
    root = cache_dir()
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return [entry for folder in folders for entry in _of_folder(folder, registered(folder.name))]


def make_room(budget: int = BUDGET_BYTES) -> None:
    """Drop things until the cache is within `budget` bytes, as far as these two sorts of things reach.

    First goes what is stale and was not used lately, of every kind; then what is made again in a second.
    """
    there, now = entries(), time.time()
    too_much = total(there) - budget
    gone = _shrink([e for e in there if e.stale and e.is_made and e.used < now - artifacts.YOUNG_SECONDS], too_much)
    idle = [e for e in there if e.is_quick and e.used < now - JUST_NOW_SECONDS and e not in gone]
    _shrink(idle, too_much - total(gone))


def prune(everything: bool = False, max_size: int | None = None) -> list[Entry]:
    """Drop what is stale, or with `everything` all that can be made again. Return what has gone.

    Where the rest is larger than `max_size` bytes, go on with what costs least and was unused for longest. What a
    process needs now stays.
    """
    there = [entry for entry in entries() if entry.is_made]
    if everything:
        shutil.rmtree(cache_dir() / kept_digests.FOLDER, ignore_errors=True)
    gone = [entry for entry in there if (entry.stale or everything) and artifacts.drop(entry.path)]
    if max_size is not None:
        left = entries()
        too_much = total(left) - max_size
        gone += _shrink([entry for entry in left if entry.is_made], too_much)
    return gone


def total(there: Iterable[Entry]) -> int:
    """Return the size of all entries together, in bytes."""
    return sum(entry.size for entry in there)


def _shrink(candidates: Iterable[Entry], too_much: int) -> list[Entry]:
    """Drop the candidates that cost least, the longest unused first, until `too_much` bytes are gone."""
    gone: list[Entry] = []
    for entry in sorted(candidates, key=lambda entry: (entry.cost, entry.used)):
        if total(gone) >= too_much:
            break
        if artifacts.drop(entry.path):
            gone.append(entry)
    return gone


def _of_folder(folder: Path, kind: Kind | None) -> list[Entry]:
    if kind is None:
        return [Entry(folder.name, folder, _size(folder), folder.stat().st_mtime, stale=False)]
    made = [path for path in sorted(folder.iterdir()) if path.is_dir() and label_of(path)]
    current = kind.current(folder)
    entries = []
    for path in [*made, *sorted(folder.glob("*.partial"))]:
        try:
            stale = path in made and path.name not in current
            entries.append(Entry(kind.name, path, _size(path), path.stat().st_mtime, stale))
        except FileNotFoundError:  # another process has dropped it
            continue
    return entries


def _size(path: Path) -> int:
    """Return what a folder takes on the disk, in bytes; a file with two names counts twice."""
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):  # another process has dropped it
                size += Path(folder, name).lstat().st_blocks * 512
    return size
