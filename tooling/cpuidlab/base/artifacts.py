"""Make things once, in a content-addressed cache: a folder is named by the hash of what the thing is made from."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock, Timeout

from cpuidlab.base.artifact_kinds import Kind, label_of, registered
from cpuidlab.base.errors import FULL_DISK, LabError, UsageError
from cpuidlab.base.paths import cache_dir
from cpuidlab.base.progress import say, step

LOCK_SECONDS = 1800
# A thing that was used within this time stays, though there is a newer one: another checkout may be at work with it.
YOUNG_SECONDS = 3600

_only_looking = ContextVar("_only_looking", default=False)


class NotMadeError(Exception):
    """A caller only looked for a thing that is not in the cache; nothing failed, so this is no LabError."""


@contextmanager
def only_looking() -> Iterator[None]:
    """Have `made` raise NotMadeError in this thread where it would make something."""
    token = _only_looking.set(True)
    try:
        yield
    finally:
        _only_looking.reset(token)


def key_of(inputs: Mapping[str, str]) -> str:
    """Return a short stable name for a set of named inputs."""
    text = "".join(f"{name}\0{inputs[name]}\0" for name in sorted(inputs))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def made(kind: Kind, label: str, inputs: Mapping[str, str], make: Callable[[Path], None]) -> Path:
    """Return the cached folder for `inputs`; where there is none yet, let `make` fill one, shown as a step.

    `make` works in a folder of its own, which gets its final name only when `make` has ended. So a run that is
    killed half-way leaves nothing that a later run could take for finished. Two runs at once make the thing once.
    Raises UsageError where the cache cannot be used, LabError where the disk is full or another run holds the lock
    for half an hour.
    """
    parent = cache_dir() / kind.name
    final = parent / f"{label}-{key_of(inputs)}"
    if final.is_dir():
        with suppress(OSError):  # when it was last used; a cache that may only be read does as well
            os.utime(final)
        return final
    if _only_looking.get():
        raise NotMadeError(final.name)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _locked(final):
            if not final.is_dir():
                _make_whole(final, f"{kind.name}: {label}", make)
                _drop_older(final)
    except PermissionError as error:
        raise UsageError(f"cannot use the cache: {error}; set XDG_CACHE_HOME to a folder of yours") from error
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise disk_full(kind.name, label) from error
    return final


def drop(folder: Path) -> bool:
    """Remove a folder of the cache as a whole; return False, and leave the folder, where a process needs it now."""
    kind = registered(folder.parent.name)
    whole = folder.with_name(folder.name.removesuffix(".partial"))
    lock = _lock_file(whole)
    try:
        with FileLock(str(lock)).acquire(blocking=False) if lock.exists() else nullcontext():  # nobody makes it anew
            if kind and kind.in_use(folder):
                return False
            gone = whole.with_name(whole.name + ".partial")  # killed here, the rest goes with the next sweep
            with suppress(FileNotFoundError):  # another process was quicker
                folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
    except Timeout:
        return False
    return True


def disk_full(kind: str, label: str) -> LabError:
    """Return the error with the one line for a cache without room."""
    return LabError(f"disk full while making {kind} {label} in {cache_dir()}: free some room or set XDG_CACHE_HOME")


def _drop_older(final: Path) -> None:
    """Remove what has the same label and was made from other inputs."""
    for other in final.parent.iterdir():
        if other != final and other.is_dir() and label_of(other) == label_of(final):
            with suppress(OSError):
                if time.time() - other.stat().st_mtime > YOUNG_SECONDS:
                    drop(other)


def _lock_file(final: Path) -> Path:
    return final.with_name(final.name + ".lock")


def _locked(final: Path) -> AbstractContextManager[object]:
    lock = FileLock(str(_lock_file(final)))
    try:
        return lock.acquire(blocking=False)  # released by the caller's with: FileLock's own would acquire it once more
    except Timeout:
        say(f"  .. waiting for another run that is making {final.name}")
        try:
            return lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise LabError(f"another run holds {lock.lock_file} for {LOCK_SECONDS} s now; end it, try again") from None


def _make_whole(final: Path, title: str, make: Callable[[Path], None]) -> None:
    partial = final.with_name(final.name + ".partial")
    _sweep(final.parent)
    shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
    partial.mkdir()
    try:
        with step(title):
            make(partial)
        partial.replace(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what killed runs have left half made: a live run holds the lock."""
    for partial in parent.glob("*.partial"):
        lock = FileLock(str(partial.with_name(partial.name.removesuffix(".partial") + ".lock")))
        try:
            with lock.acquire(blocking=False):
                shutil.rmtree(partial, ignore_errors=True)
        except Timeout:
            continue
