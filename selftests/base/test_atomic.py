import errno
from pathlib import Path

import pytest
from cpuidlab.base.atomic import create_atomically, write_atomically


def test_a_text_replaces_the_one_before(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write_atomically(tmp_path / "file", text)
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", text)]


def test_a_write_that_fails_leaves_the_old_text_and_nothing_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(tmp_path / "file", "old")

    def half(path: Path, text: str) -> None:
        with path.open("w") as file:
            file.write(text[:1])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="full"):
        write_atomically(tmp_path / "file", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_of_two_that_create_a_file_the_first_wins(tmp_path: Path) -> None:
    assert create_atomically(tmp_path / "file", "first")
    assert not create_atomically(tmp_path / "file", "second")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "first")]
