"""Know the kinds of things in the cache: each module that makes a kind of things registers the kind here."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

QUICK_SECONDS = 1
_NAME = re.compile(r"(?P<label>.+)-[0-9a-f]{20}")  # of a folder that artifacts.made has made
_registered: dict[str, "Kind"] = {}


def label_of(folder: Path) -> str | None:
    """Return the label of a folder that `artifacts.made` has made; None for a folder of another name."""
    match = _NAME.fullmatch(folder.name)
    return match["label"] if match else None


def last_used(kind: Path) -> set[str]:
    """Return the names of the folders that count as current: of each label the one that was used last."""
    newest: dict[str | None, tuple[float, str]] = {}
    for folder in kind.iterdir():
        label = label_of(folder)
        if label is not None and folder.is_dir():
            this = (_time_of(folder), folder.name)
            newest[label] = max(newest.get(label, this), this)
    return {name for _, name in newest.values()}


def _never(_folder: Path) -> bool:
    return False


@dataclass(frozen=True)
class Kind:
    """One kind of things in the cache, which registers itself. Its things lie in the cache's folder `name`.

    `cost` is what the loss of one thing costs, in seconds, rough: the time to make it and all that must be made anew
    because of it. Only the order of the costs counts: what costs least is dropped first. `in_use` tells of one folder
    whether a process needs it now. `current` gives the names that today's inputs lead to; all others are stale.
    """

    name: str
    cost: float
    in_use: Callable[[Path], bool] = _never
    current: Callable[[Path], set[str]] = last_used

    def __post_init__(self) -> None:
        """Register the kind under its name."""
        _registered[self.name] = self

    @property
    def is_quick(self) -> bool:
        """Tell whether a lost thing is made again in a second, so that the thing may go whenever room is needed."""
        return self.cost <= QUICK_SECONDS


def registered(name: str) -> Kind | None:
    """Return the kind of that name; None where no module that runs here makes such things."""
    return _registered.get(name)


def _time_of(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another process has dropped it
        return 0.0
