"""Memory of a machine as a file: make it, and copy it without the pages that hold only zeros."""

import errno
import os
from typing import IO

BLOCK = 64 * 1024


def new_memory() -> IO[bytes]:
    """Return a new empty file without a name, in memory. It ends when nobody has it open."""
    return os.fdopen(os.memfd_create("ram"), "rb")


def copy_sparse(source: int, target: int) -> None:
    """Copy a file, by descriptors, with holes for blocks of zeros. Raises OSError where there is no space left."""
    zeros = bytes(BLOCK)
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    offset = _next_data(source, 0, size)
    while offset < size:
        piece = os.pread(source, BLOCK, offset)
        if piece != zeros and os.pwrite(target, piece, offset) != len(piece):
            raise OSError(errno.ENOSPC, "no space left for the machine's memory")
        offset = _next_data(source, offset + BLOCK, size)


def _next_data(source: int, offset: int, size: int) -> int:
    try:
        return os.lseek(source, offset, os.SEEK_DATA) if offset < size else size
    except OSError:  # ENXIO: only a hole is left
        return size
