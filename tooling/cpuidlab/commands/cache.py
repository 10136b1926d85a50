"""`cpuidlab cache`: show what lies in the cache, and drop what is not needed."""

import json
import re
from collections.abc import Sequence

from cpuidlab.base import artifact_gc
from cpuidlab.base.artifact_gc import Entry
from cpuidlab.base.errors import UsageError
from cpuidlab.base.exit_codes import OK
from cpuidlab.base.paths import cache_dir
from cpuidlab.experiment import ask_kernel  # noqa: F401  it and what it imports register all kinds of things


def main(prune: bool, everything: bool, max_size: str | None, as_json: bool) -> int:
    """Show the cache, or prune it and say how much has gone; UsageError for options that do not fit together."""
    if prune:
        gone = artifact_gc.prune(everything, bytes_of(max_size) if max_size else None)
        print(f"{len(gone)} dropped, {_human(artifact_gc.total(gone))} freed")
    elif everything or max_size:
        raise UsageError("--all and --max-size belong to 'cpuidlab cache prune'")
    else:
        there = artifact_gc.entries()
        print(_json(there) if as_json else _text(there))
    return OK


def bytes_of(text: str) -> int:
    """Return the number of bytes that a size such as 6G, 500M or 123456 stands for; UsageError where it is no size."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.strip().upper())
    if not match:
        raise UsageError(f"'{text}' is no size; give one such as 6G or 500M")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2] or " "))


def _json(there: Sequence[Entry]) -> str:
    rows = [
        {"kind": e.kind, "name": e.path.name, "bytes": e.size, "used": int(e.used), "stale": e.stale} for e in there
    ]
    return json.dumps({"cache": str(cache_dir()), "entries": rows}, indent=2)


def _text(there: Sequence[Entry]) -> str:
    """Return a line for each kind, one for all, and one for each stale thing."""
    lines = [_line(kind, [entry for entry in there if entry.kind == kind]) for kind in _kinds(there)]
    lines.append(f"{_line('all', there)}  in {cache_dir()}")
    stale = [entry for entry in there if entry.stale]
    lines += [f"stale      {_human(entry.size):>16}  {entry.kind}/{entry.path.name}" for entry in stale]
    if stale:
        lines.append(f"'cpuidlab cache prune' frees {_human(artifact_gc.total(stale))}")
    return "\n".join(lines)


def _line(name: str, group: Sequence[Entry]) -> str:
    return f"{name:10} {len(group):5} {_human(artifact_gc.total(group)):>10}"


def _kinds(there: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(entry.kind for entry in there))


def _human(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
