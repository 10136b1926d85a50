"""SHA-256 of programs and images, kept in the cache: a file is read again only when it has changed."""

import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from cpuidlab.base.artifacts import file_digest
from cpuidlab.base.atomic import write_atomically
from cpuidlab.base.paths import cache_dir

FOLDER = "digests"  # of the cache, with one small file for each path
# A file that was written just now may be written again before the clock of its file system has moved on.
SETTLED_SECONDS = 2.0


def kept_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; for a file that is asked for again and again, at the same path.

    The file is not read again while its device, inode, size and change time are what they were. The change time is the
    kernel's own: unlike the time of modification, no program can set it (inode(7)).
    """
    found = path.stat()
    stamp = f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_ctime_ns}"
    digest = _kept(path, stamp)
    if digest is None:
        digest = file_digest(path)
        if time.time() - found.st_ctime > SETTLED_SECONDS:
            _keep(path, stamp, digest)
    return digest


def _file(path: Path) -> Path:
    """Return the file that keeps the digest of `path`. RuntimeError where the user has no home."""
    return cache_dir() / FOLDER / sha256(os.fsencode(path.absolute())).hexdigest()


def _kept(path: Path, stamp: str) -> str | None:
    with suppress(OSError, ValueError, RuntimeError):
        old, digest = _file(path).read_text().splitlines()
        return digest if old == stamp else None
    return None


def _keep(path: Path, stamp: str, digest: str) -> None:
    with suppress(OSError, RuntimeError):  # a cache that may only be read, or a full disk, does as well
        file = _file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, f"{stamp}\n{digest}\n")
