"""Digests that are kept: a file is read again when it has changed, and only then."""

import os
from hashlib import sha256
from pathlib import Path

import pytest
from cpuidlab.base import kept_digests
from cpuidlab.base.kept_digests import kept_digest


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, one entry for each time; a file is settled as soon as it is written."""
    seen: list[Path] = []

    def file_digest(path: Path) -> str:
        seen.append(path)
        return sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(kept_digests, "file_digest", file_digest)
    monkeypatch.setattr(kept_digests, "SETTLED_SECONDS", -1)
    return seen


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "program\n\udcff"
    file.write_bytes(b"one")
    return file


def digest_of(text: bytes) -> str:
    return sha256(text).hexdigest()


def test_a_file_is_read_once(program: Path, reads: list[Path]) -> None:
    assert [kept_digest(program) for _ in range(3)] == [digest_of(b"one")] * 3
    assert reads == [program]


def test_a_file_that_was_written_again_is_read_again_whatever_its_times_say(program: Path, reads: list[Path]) -> None:
    kept_digest(program)
    before = program.stat()
    while program.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of some file systems ticks each 4 ms
        program.write_bytes(b"two")
        os.utime(program, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kept_digest(program) == digest_of(b"two")
    assert len(reads) == 2


def test_another_file_at_the_same_path_is_read(program: Path, tmp_path: Path) -> None:
    kept_digest(program)
    other = tmp_path / "other"
    other.write_bytes(b"two")
    other.rename(program)
    assert kept_digest(program) == digest_of(b"two")


def test_what_was_written_just_now_is_not_kept(
    program: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_digests, "SETTLED_SECONDS", 60)
    assert [kept_digest(program) for _ in range(2)] == [digest_of(b"one")] * 2
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["", "half a line", "a\nb\nc\n", "\udcff"])
def test_a_damaged_entry_is_no_answer(program: Path, cache: Path, damage: str) -> None:
    kept_digest(program)
    (entry,) = (cache / kept_digests.FOLDER).iterdir()
    entry.write_bytes(os.fsencode(damage))
    assert kept_digest(program) == digest_of(b"one")


def test_where_nothing_can_be_kept_the_digest_is_right(
    program: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("no folder")
    assert kept_digest(program) == digest_of(b"one")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert kept_digest(program) == digest_of(b"one")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kept_digest(tmp_path / "none")
