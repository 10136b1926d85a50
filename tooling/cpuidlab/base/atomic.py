"""Write a file so that a reader finds the old text or the new one, never half of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(file: Path, text: str) -> None:
    """Write the text aside, then put it in the file's place; nothing is left aside where that fails."""
    with written_aside(file) as partial:
        partial.write_text(text)


@contextmanager
def written_aside(file: Path) -> Iterator[Path]:
    """Yield a path beside `file`; what the caller writes there takes the place of `file`, or goes where he fails."""
    with _aside(file) as partial:
        yield partial
        partial.replace(file)


def create_atomically(file: Path, text: str) -> bool:
    """Write a file that is not there yet. Return False, and change nothing, where the file is there already."""
    with _aside(file) as partial:
        partial.write_text(text)
        try:
            file.hardlink_to(partial)  # of two writers at once exactly one succeeds
        except FileExistsError:
            return False
    return True


@contextmanager
def _aside(file: Path) -> Iterator[Path]:
    """Yield the path of a file of this process beside `file`; the file beside is gone at the end."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)
