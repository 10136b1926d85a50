"""The longer story of a failed lab, for the reader of its one line."""

from contextlib import suppress

from cpuidlab.errors import FULL_DISK, LabError
from cpuidlab.paths import cache_dir


def of_system(error: OSError) -> str:
    """What the system refused, in one line; of a full disk also what to do."""
    full = error.errno in FULL_DISK
    return f"{error}{'; free some room where the cache and the results are' if full else ''}"


def told(error: LabError) -> str:
    """The error's line. Its evidence, where it has any, goes to a file in the cache that the line then names."""
    if not error.evidence:
        return str(error)
    file = cache_dir() / "last-failure.txt"
    with suppress(OSError):
        file.write_text(f"{error}\n\n{error.evidence}\n")
        return f"{error}; more in {file}"
    return str(error)
