"""The cache: made once, whole or not at all; what a killed run left half made goes, what a live one is making stays."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cpuidlab.base import artifacts
from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.errors import LabError, UsageError
from filelock import FileLock, Timeout

THINGS = Kind("things", cost=9)


@pytest.fixture
def kind(cache: Path) -> Path:
    """The folder of the kind `things` in an empty cache."""
    return cache / "things"


def fill(folder: Path) -> None:
    (folder / "file").write_text("whole")


def never(_: Path) -> None:
    raise AssertionError("it is there already")


def test_leftovers_go_and_live_work_stays(kind: Path) -> None:
    for name in ("dead", "live"):
        (kind / f"{name}.partial").mkdir(parents=True)
    with FileLock(str(kind / "live.lock")):
        made = artifacts.made(THINGS, "new", {}, fill)
    assert (made / "file").is_file()
    assert sorted(path.name for path in kind.glob("*.partial")) == ["live.partial"]


def test_made_once_for_each_set_of_inputs() -> None:
    made = artifacts.made(THINGS, "5.10", {"kernel": "a", "image": "b"}, fill)
    assert made.name.startswith("5.10-")
    assert (made / "file").read_text() == "whole"
    assert artifacts.made(THINGS, "5.10", {"image": "b", "kernel": "a"}, never) == made
    assert artifacts.made(THINGS, "5.10", {"kernel": "a", "image": "c"}, fill) != made


def test_what_is_there_is_had_without_the_lock(kind: Path) -> None:
    made = artifacts.made(THINGS, "x", {}, fill)
    with FileLock(str(kind / f"{made.name}.lock")):
        assert artifacts.made(THINGS, "x", {}, never) == made


def test_a_key_does_not_confuse_names_and_values() -> None:
    assert artifacts.key_of({"a": "b", "c": "d"}) == artifacts.key_of({"c": "d", "a": "b"})
    assert artifacts.key_of({"a": "bc"}) != artifacts.key_of({"ab": "c"})
    assert artifacts.key_of({"a": "b", "c": "d"}) != artifacts.key_of({"a": "bc", "d": ""})


def test_what_is_being_made_is_not_dropped(kind: Path) -> None:
    folder = artifacts.made(THINGS, "one", {}, fill)
    with FileLock(f"{folder}.lock"):
        assert not artifacts.drop(folder)
    assert (folder / "file").is_file()
    assert artifacts.drop(folder)
    assert sorted(path.suffix for path in kind.iterdir()) == [".lock"]


def test_what_fails_leaves_nothing_and_can_be_made_again(kind: Path) -> None:
    def breaks(folder: Path) -> None:
        fill(folder)
        raise LabError("broken")

    with pytest.raises(LabError, match="broken") as caught:
        artifacts.made(THINGS, "x", {}, breaks)
    assert [path for path in kind.iterdir() if path.is_dir()] == []
    assert caught.value is not None  # its traceback is alive, and holds no lock
    assert (artifacts.made(THINGS, "x", {}, fill) / "file").read_text() == "whole"


def test_the_lock_is_let_go(kind: Path) -> None:
    held = artifacts._locked(kind.parent / "x")
    with held, pytest.raises(Timeout):
        FileLock(str(kind.parent / "x.lock")).acquire(blocking=False)
    FileLock(str(kind.parent / "x.lock")).acquire(blocking=False).lock.release()
    assert held is not None  # alive: nobody has let it go but the with


KILLED_HALF_WAY = """
import sys, time
from cpuidlab.base import artifacts
from cpuidlab.base.artifact_kinds import Kind
def make(folder):
    (folder / "file").write_text("half")
    print("half", flush=True)
    time.sleep(60)
artifacts.made(Kind("things", cost=9), "x", {}, make)
"""


def test_killed_half_way(kind: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED_HALF_WAY], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "half\n"
        other.send_signal(signal.SIGKILL)
    assert [path.suffix for path in kind.iterdir() if path.is_dir()] == [".partial"]
    made = artifacts.made(THINGS, "x", {}, fill)
    assert (made / "file").read_text() == "whole"
    assert [path for path in kind.iterdir() if path.is_dir()] == [made]


def test_two_at_once_make_it_once() -> None:
    begun, go_on = threading.Event(), threading.Event()
    makes: list[str] = []
    got: list[Path] = []

    def slow(folder: Path) -> None:
        makes.append("slow")
        begun.set()
        assert go_on.wait(10)
        fill(folder)

    first = threading.Thread(target=lambda: got.append(artifacts.made(THINGS, "x", {}, slow)))
    second = threading.Thread(
        target=lambda: got.append(artifacts.made(THINGS, "x", {}, lambda _: makes.append("again")))
    )
    first.start()
    assert begun.wait(10)
    second.start()
    second.join(0.2)
    assert second.is_alive()  # it waits for the first
    go_on.set()
    first.join(10)
    second.join(10)
    assert makes == ["slow"]
    assert len(got) == 2
    assert got[0] == got[1]


def test_a_lock_that_is_held_for_ever(kind: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "LOCK_SECONDS", 0.1)
    kind.mkdir(parents=True)
    with (
        FileLock(str(kind / f"x-{artifacts.key_of({})}.lock")),
        pytest.raises(LabError, match="another run holds"),
    ):
        artifacts.made(THINGS, "x", {}, never)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line(kind: Path, number: int) -> None:
    def full(folder: Path) -> None:
        fill(folder)
        raise OSError(number, os.strerror(number))

    with pytest.raises(LabError, match=r"disk full while making things x in .*set XDG_CACHE_HOME"):
        artifacts.made(THINGS, "x", {}, full)
    assert [path for path in kind.iterdir() if path.is_dir()] == []


def test_other_errors_of_the_system_are_not_called_a_full_disk() -> None:
    def breaks(_: Path) -> None:
        raise OSError(errno.EIO, "I/O error")

    with pytest.raises(OSError, match="I/O error"):
        artifacts.made(THINGS, "x", {}, breaks)


def test_a_cache_that_may_not_be_written() -> None:
    def denied(_: Path) -> None:
        raise PermissionError(errno.EACCES, "denied")

    with pytest.raises(UsageError, match="cannot use the cache"):
        artifacts.made(THINGS, "x", {}, denied)
