"""The memory of a snapshot, packed: of each stage only the pages that differ from the stage before, compressed.

Most of these pages are in the base of the host's initramfs too, byte by byte, so the base is the compressor's
dictionary. The memory is unpacked into a plain file before a rig is restored; a restore only maps that file.
"""

import os
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from cpuidlab.base import command
from cpuidlab.base.errors import LabError

PAGE = 4096
_CHUNK = 1 << 20
_HEAD = struct.Struct("<QQ")  # offset and length of a change; in the first head the size of the memory and 0
_SECONDS = 300


def pack(ram: Path, base: Path | None, dictionary: Path, into: Path) -> None:
    """Write to `into` the pages of `ram` that differ from `base` (or from zeros)."""
    changes = into.with_name(into.name + ".changes")
    with ram.open("rb") as new, (base or Path("/dev/zero")).open("rb") as old, changes.open("wb") as file:
        size = os.fstat(new.fileno()).st_size
        file.write(_HEAD.pack(size, 0))
        for offset in range(0, size, _CHUNK):
            for start, piece in _different(
                os.pread(new.fileno(), _CHUNK, offset), os.pread(old.fileno(), _CHUNK, offset)
            ):
                file.write(_HEAD.pack(offset + start, len(piece)) + piece)
    words = ["zstd", "-q", "-f", "-1", "-T1", "--rm", f"--patch-from={dictionary}", str(changes), "-o", str(into)]
    command.run(words, seconds=_SECONDS)


def unpack(stages: Sequence[Path], dictionary: Path, ram: Path) -> None:
    """Make the file `ram` from what `pack` wrote for each of `stages`; the first stage was packed without a base.

    Raises LabError where a file is not whole, or was packed with another dictionary.
    """
    with ram.open("xb") as file:
        for stage in stages:
            words = ["zstd", "-q", "-d", "-c", "--long=31", f"--patch-from={dictionary}", str(stage)]
            with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
                assert running.stdout is not None and running.stderr is not None  # noqa: S101  asked for above
                whole = _apply(running.stdout, file.fileno())
                running.stdout.close()
                complaint = running.stderr.read().decode(errors="replace").strip()
            if running.returncode or not whole:
                raise LabError(f"the snapshot {stage} is not whole; remove {stage.parents[1]} and run again", complaint)


def _different(new: bytes, old: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the runs of pages in which `new` differs from `old`, with their offsets."""
    if new == old:
        return
    start = None
    for at in range(0, len(new), PAGE):
        same = new[at : at + PAGE] == old[at : at + PAGE]
        if same and start is not None:
            yield start, new[start:at]
            start = None
        elif not same and start is None:
            start = at
    if start is not None:
        yield start, new[start:]


def _apply(changes: IO[bytes], ram: int) -> bool:
    """Write the changes into the memory. Return False where the changes are not whole."""
    head = changes.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return False
    os.ftruncate(ram, _HEAD.unpack(head)[0])
    while head := changes.read(_HEAD.size):
        if len(head) < _HEAD.size:
            return False
        offset, length = _HEAD.unpack(head)
        piece = changes.read(length)
        if len(piece) < length:
            return False
        _write(ram, piece, offset)
    return True


def _write(ram: int, piece: bytes, offset: int) -> None:
    while piece:  # a disk that fills up takes a part, and fails at the next call
        written = os.pwrite(ram, piece, offset)
        piece, offset = piece[written:], offset + written
