"""Tell of a failure in one line with an exit code; what is longer goes to a file."""

import traceback
from contextlib import suppress
from pathlib import Path

from cpuidlab.base.errors import FULL_DISK, LabError, UsageError
from cpuidlab.base.exit_codes import INTERRUPTED, UNTESTED, USAGE
from cpuidlab.base.paths import cache_dir


def line_and_code(error: BaseException) -> tuple[str, int]:
    """Return the line about whatever ended a command, and the command's exit code.

    Python's own code for an exception that nobody catches is 1, which says here that a promise is broken.
    """
    match error:
        case UsageError():
            return str(error), USAGE
        case LabError():
            return told(error), UNTESTED
        case KeyboardInterrupt():
            return "interrupted", INTERRUPTED
        case OSError():
            return _of_system(error), UNTESTED
        case _:
            return _of_defect(error), UNTESTED


def told(error: LabError) -> str:
    """Return the error's line. Its evidence, where it has any, goes to a file in the cache that the line then names."""
    if not error.evidence:
        return str(error)
    file = cache_dir() / "last-failure.txt"
    with suppress(OSError):
        file.write_text(f"{error}\n\n{error.evidence}\n")
        return f"{error}; more in {file}"
    return str(error)


def first_line(text: str) -> str:
    """Return the first line of a reason: it says all that matters."""
    return text.partition("\n")[0]


def printable(text: str) -> str:
    """Return the text with a blank for each sign that does not print: a file may hold what commands a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _of_system(error: OSError) -> str:
    """Return what the system refused, and of a full disk also what to do."""
    full = error.errno in FULL_DISK
    return f"{error}{'; free some room where the cache and the results are' if full else ''}"


def _of_defect(error: BaseException) -> str:
    """Return what nobody has foreseen, with the place in the source where it came up."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what} ({Path(at.filename).name}:{at.lineno}); this is a defect of the lab"
