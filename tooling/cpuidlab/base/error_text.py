"""The longer story of a failed lab, for the reader of its one line."""

import traceback
from contextlib import suppress
from pathlib import Path

from cpuidlab.base.errors import FULL_DISK, LabError
from cpuidlab.base.paths import cache_dir


def of_system(error: OSError) -> str:
    """What the system refused, in one line; of a full disk also what to do."""
    full = error.errno in FULL_DISK
    return f"{error}{'; free some room where the cache and the results are' if full else ''}"


def of_lab(error: Exception) -> str:
    """What nobody has foreseen, in one line that says where it came up."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what} ({Path(at.filename).name}:{at.lineno}); this is a defect of the lab"


def told(error: LabError) -> str:
    """The error's line. Its evidence, where it has any, goes to a file in the cache that the line then names."""
    if not error.evidence:
        return str(error)
    file = cache_dir() / "last-failure.txt"
    with suppress(OSError):
        file.write_text(f"{error}\n\n{error.evidence}\n")
        return f"{error}; more in {file}"
    return str(error)


def first_line(text: str) -> str:
    """The first line of a reason: it says all that matters."""
    return text.partition("\n")[0]
