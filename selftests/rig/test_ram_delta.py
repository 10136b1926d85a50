"""A rig's memory packed and laid out again: the same to the byte, small, and never silently half of it."""

import os
import random
import subprocess
from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.rig import ram_delta
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SIZE = 3 * ram_delta._CHUNK + ram_delta.PAGE


def noise(number: int, length: int = ram_delta.PAGE) -> bytes:
    return random.Random(number).randbytes(length)  # noqa: S311


def memory(file: Path, *pages: int, size: int = SIZE) -> Path:
    """A sparse file with noise in these pages."""
    with file.open("wb") as opened:
        opened.truncate(size)
        for page in pages:
            os.pwrite(opened.fileno(), noise(page), page * ram_delta.PAGE)
    return file


def test_stages_come_back_and_holes_stay_holes(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(noise(0) + b"shift" + noise(256) + noise(700))
    first = memory(tmp_path / "first", 0, 1, 255, 256, 700)
    second = memory(tmp_path / "second", 0, 2, 256, 768)  # 1, 255 and 700 are zero now
    ram_delta.pack(first, None, image, tmp_path / "first.zst")
    ram_delta.pack(second, first, image, tmp_path / "second.zst")
    ram_delta.unpack([tmp_path / "first.zst"], image, tmp_path / "a")
    ram_delta.unpack([tmp_path / "first.zst", tmp_path / "second.zst"], image, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == first.read_bytes()
    assert (tmp_path / "b").read_bytes() == second.read_bytes()
    assert (tmp_path / "a").stat().st_blocks * 512 <= 8 * ram_delta.PAGE
    assert (tmp_path / "first.zst").stat().st_size < 3 * ram_delta.PAGE  # three of the five pages lie in the image
    assert not list(tmp_path.glob("*.changes"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 768), max_size=9), st.lists(st.integers(0, 768), max_size=9))
def test_whatever_changes(tmp_path: Path, before: list[int], after: list[int]) -> None:
    old, new = memory(tmp_path / "old", *before), memory(tmp_path / "new", *after)
    stages, image = [tmp_path / "1", tmp_path / "2"], memory(tmp_path / "image", 3)
    ram_delta.pack(old, None, image, stages[0])
    ram_delta.pack(new, old, image, stages[1])
    (tmp_path / "again").unlink(missing_ok=True)
    ram_delta.unpack(stages, image, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == new.read_bytes()


@pytest.mark.parametrize("harm", ["cut", "flip", "other image", "gone", "empty", "more"])
def test_what_is_not_whole_is_told(tmp_path: Path, harm: str) -> None:
    image = tmp_path / "image"
    image.write_bytes(noise(9, 9999) + noise(1))
    stage = tmp_path / "rigs/guest_ready/ram.zst"
    stage.parent.mkdir(parents=True)
    ram_delta.pack(memory(tmp_path / "ram", 0, 1, 5), None, image, stage)
    content = bytearray(stage.read_bytes())
    if harm == "cut":
        stage.write_bytes(content[:-100])
    if harm == "flip":
        content[len(content) // 2] ^= 1
        stage.write_bytes(content)
    if harm == "other image":
        image.write_bytes(noise(2, 99999))
    if harm == "more":
        stage.write_bytes(content + b"something else")
    if harm == "gone":
        stage.unlink()
    if harm == "empty":
        stage.write_bytes(subprocess.run(["zstd", "-c"], input=b"", capture_output=True, check=True).stdout)
    with pytest.raises(LabError, match=f"not whole; remove {tmp_path}/rigs and run again"):
        ram_delta.unpack([stage], image, tmp_path / "again")


def test_half_a_change_is_told(tmp_path: Path) -> None:
    image = memory(tmp_path / "image", 3)
    for cut in (8, 20, ram_delta.PAGE):
        (tmp_path / "cut").write_bytes(
            (ram_delta._HEAD.pack(SIZE, 0) + ram_delta._HEAD.pack(0, 4096) + bytes(4096))[:-cut]
        )
        subprocess.run(["zstd", "-q", "-f", tmp_path / "cut", "-o", tmp_path / "stage"], check=True)
        with pytest.raises(LabError, match="not whole"):
            ram_delta.unpack([tmp_path / "stage"], image, tmp_path / f"ram{cut}")
