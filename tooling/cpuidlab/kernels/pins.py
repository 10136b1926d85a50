"""Pins: files in the cache that keep what a name was resolved to, so that the name means the same tomorrow.

The name is a series, a point release, "newest", or the label of a kernel of the user's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cpuidlab.base import artifacts
from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.atomic import create_atomically, write_atomically
from cpuidlab.base.errors import FULL_DISK, UsageError
from cpuidlab.base.paths import cache_dir


@contextmanager
def cache_errors() -> Iterator[None]:
    """Turn an error of the file system into one line about the cache.

    Raises LabError where the disk is full, UsageError for every other OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise artifacts.disk_full("kernels", "and their lists") from error
        raise UsageError(f"cannot use the cache: {error}; set XDG_CACHE_HOME to a folder of yours") from error


def read(name: str) -> str | None:
    """Return the pinned text; None where the name was never pinned."""
    try:
        return _file(name).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(name: str, text: str) -> None:
    """Pin the name to the text, whatever it was pinned to before."""
    write_atomically(_made_file(name), text)


def claim(name: str, path: str) -> bool:
    """Pin the name to a path (of several, separated by commas, the first counts), and tell whether that worked.

    The name stays with an earlier path for as long as that path exists.
    """
    owner = read(name)
    if owner is not None and not Path(owner.partition(",")[0]).exists():
        _file(name).unlink(missing_ok=True)
    create_atomically(_made_file(name), path)
    return read(name) == path


def pinned_to(kernels: Path) -> set[str]:
    """Return all that is pinned in the folder of the kernels."""
    texts = set()
    for file in (kernels / "pins").glob("*"):
        with suppress(FileNotFoundError):  # what another process writes aside is gone at once
            texts.add(file.read_text())
    return texts


KERNELS = Kind("kernels", cost=300, current=pinned_to)


def _file(name: str) -> Path:
    return cache_dir() / KERNELS.name / "pins" / name


def _made_file(name: str) -> Path:
    file = _file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
