"""Copy the memory of a machine and leave out the pages that hold only zeros."""

import errno
import os

BLOCK = 64 * 1024


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
