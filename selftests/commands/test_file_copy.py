"""Files go there and back whole, in the place of the named file and of nothing else."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.commands import file_copy
from cpuidlab.commands.file_copy import Get, Put, parse_get, parse_put
from fakehost import FakeHost


def well() -> None:
    """A machine that is well."""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Ours, which is the current folder, and the home on the host."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    monkeypatch.chdir(ours)
    return ours, theirs


def put(home: Path, text: str) -> None:
    host: Any = FakeHost(home)
    file_copy.put(host, parse_put(text), well)


def get(home: Path, text: str) -> None:
    host: Any = FakeHost(home)
    file_copy.get(host, parse_get(text), well)


@pytest.mark.parametrize("name", ["file", "-rf", "a b$(id)'", "ü"])
@pytest.mark.parametrize("mode", [0o640, 0o755])
def test_there_and_back(folders: tuple[Path, Path], name: str, mode: int) -> None:
    ours, theirs = folders
    data = os.urandom(300_000)
    (ours / name).write_bytes(data)
    (ours / name).chmod(mode)
    put(theirs, name)
    put(theirs, f"{name}:copy")
    get(theirs, f"{name}:back")
    for file in (theirs / name, theirs / "copy", ours / "back"):
        assert (file.read_bytes(), file.stat().st_mode & 0o7777) == (data, mode)
    assert len(list(theirs.iterdir())) == len(list(ours.iterdir())) == 2  # nothing is left aside


def test_an_older_file_is_replaced(folders: tuple[Path, Path]) -> None:
    ours, theirs = folders
    (ours / "file").write_text("new")
    (theirs / "file").write_text("a longer old text")
    put(theirs, "file")
    assert (theirs / "file").read_text() == "new"
    (ours / "file").write_text("old again")
    get(theirs, "file")
    assert (ours / "file").read_text() == "new"


def test_names() -> None:
    assert parse_put(f"{__file__}:/run/").there == "/run/test_file_copy.py"
    assert parse_put(f"{__file__}:").there == "test_file_copy.py"
    assert parse_put(__file__) == Put(Path(__file__), "test_file_copy.py")
    assert parse_get("/sys/0000:00:02.0/vendor:") == Get("/sys/0000:00:02.0/vendor", Path("vendor"))
    assert parse_get("/proc/cpuinfo:./").here == Path("cpuinfo")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("missing", "there is no file missing"),
        ("missing:/tmp/x", "there is no file missing"),
        (".", "is no regular file"),
        ("/dev/null", "is no regular file"),
        (":x", "names no file"),
        ("", "names no file"),
    ],
)
def test_a_put_that_cannot_be(text: str, line: str, folders: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match=line):
        parse_put(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x:/dev/null", "no regular file"),
        ("x:link", "no regular file"),
        ("x:.", "is a folder"),
        ("x:/no/such/folder/y", "nothing can be written"),
        ("folder/", "names no file"),
        ("", "names no file"),
    ],
)
def test_a_get_that_cannot_be(text: str, line: str, folders: tuple[Path, Path]) -> None:
    (folders[0] / "link").symlink_to("/dev/stdout")
    with pytest.raises(UsageError, match=line):
        parse_get(text)


@pytest.mark.parametrize(
    ("target", "line"),
    [("folder", "is a folder"), ("fifo", "no regular file"), ("none/x", "a folder that is not there")],
)
def test_what_a_put_does_not_replace(target: str, line: str, folders: tuple[Path, Path]) -> None:
    ours, theirs = folders
    (ours / "file").touch()
    (theirs / "folder").mkdir()
    os.mkfifo(theirs / "fifo")
    with pytest.raises(UsageError, match=f"{target} in the VM.*{line}"):
        put(theirs, f"file:{target}")
    assert sorted(path.name for path in theirs.iterdir()) == ["fifo", "folder"]


@pytest.mark.parametrize(
    ("name", "line"), [("none", "is not there"), ("folder", "is a folder"), ("fifo", "no regular")]
)
def test_what_cannot_be_got(name: str, line: str, folders: tuple[Path, Path]) -> None:
    ours, theirs = folders
    (ours / "back").write_text("old")
    (theirs / "folder").mkdir()
    os.mkfifo(theirs / "fifo")
    with pytest.raises(UsageError, match=line):
        get(theirs, f"{name}:back")
    assert [(path.name, path.read_text()) for path in ours.iterdir()] == [("back", "old")]


def test_half_a_file_takes_nobodys_place(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = folders
    (ours / "file").write_text("new text")
    (theirs / "file").write_text("old")
    monkeypatch.setattr(file_copy.os, "fstat", lambda _: os.stat_result((0o100644, 0, 0, 1, 0, 0, 9, 0, 0, 0)))
    with pytest.raises(LabError, match="could not be copied"):
        put(theirs, "file")
    assert [(path.name, path.read_text()) for path in theirs.iterdir()] == [("file", "old")]


def test_what_a_vm_says_is_no_command_for_the_terminal() -> None:
    with pytest.raises(LabError) as raised:
        file_copy._check("--get", "file", 1, BytesIO(b"cat: \x1b[2Jfile: I/O error\n"))
    assert str(raised.value) == "--get: file in the VM could not be copied: cat: ?[2Jfile: I/O error"


def test_a_program_from_a_vm_gets_no_other_users_rights(folders: tuple[Path, Path]) -> None:
    ours, theirs = folders
    (theirs / "file").touch()
    (theirs / "file").chmod(0o4755)
    get(theirs, "file")
    assert (ours / "file").stat().st_mode & 0o7777 == 0o755
