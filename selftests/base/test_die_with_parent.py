"""A process ends with the one that it watches, and its temporary files with itself, however that one ends."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from cpuidlab.base.die_with_parent import end_with_parent
from waiting import ended, until

WATCHER = "import sys, time; from cpuidlab.base.die_with_parent import die_with; die_with(int(sys.argv[1])); print('up', flush=True); time.sleep(60)"  # noqa: E501


def watcher(pid: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WATCHER, str(pid)], stdout=subprocess.PIPE, text=True)


def test_it_dies_with_a_killed_process_and_not_before() -> None:
    watched = subprocess.Popen(["sleep", "60"])
    with watcher(watched.pid) as bound:
        assert bound.stdout is not None
        assert bound.stdout.readline() == "up\n"
        assert bound.poll() is None
        watched.send_signal(signal.SIGKILL)
        try:
            assert bound.wait(10) == 1
        finally:
            bound.kill()
            watched.wait()


def test_it_dies_at_once_where_the_process_is_gone() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with watcher(gone.pid) as bound:
        assert bound.communicate(timeout=10)[0] == ""
        assert bound.returncode == 1


STARTER = """
import os, subprocess, sys, time
from functools import partial
from cpuidlab.base.die_with_parent import DIE_WITH_US, end_with_parent
before = DIE_WITH_US if sys.argv[1] == "setpriv" else ()
early = partial(end_with_parent, os.getpid()) if sys.argv[1] == "prctl" else None
print(subprocess.Popen([*before, "sleep", "60"], preexec_fn=early).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("way", ["setpriv", "prctl"])
def test_a_program_ends_with_a_parent_that_is_killed(way: str) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER, way], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.2)  # setpriv needs a moment to ask for it
        assert psutil.pid_exists(child)
        parent.kill()
    until(lambda: ended(child))


STOPPED = """
import os, signal, time
from cpuidlab.base.die_with_parent import end_with_parent
parent = os.getpid()
child = os.fork()
if not child:
    end_with_parent(parent)
    os.kill(os.getpid(), signal.SIGSTOP)
print(child, flush=True)
time.sleep(60)
"""


def test_a_stopped_process_ends_with_its_parent_too() -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        until(lambda: psutil.Process(child).status() == psutil.STATUS_STOPPED)
        parent.kill()
    until(lambda: ended(child))


def test_a_program_whose_parent_died_before_is_not_started() -> None:
    done = subprocess.run(["sleep", "60"], preexec_fn=partial(end_with_parent, 1), check=False, timeout=10)
    assert done.returncode == 1


OWNER = """
import signal, subprocess, sys, tempfile, time
from cpuidlab.base.die_with_parent import own_temp_folder
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in a shell's background ignores Ctrl-C
own_temp_folder()
tempfile.mkdtemp()
subprocess.run(["mktemp"], check=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket fits in
        yield Path(folder)


@pytest.mark.parametrize("how", [None, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_temporary_files_go_with_their_process(short_folder: Path, how: signal.Signals | None) -> None:
    words = [sys.executable, "-c", OWNER, "60" if how else "0.2"]
    with subprocess.Popen(words, env={"TMPDIR": str(short_folder)}, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            made = Path(owner.stdout.readline().strip())
            assert made.is_relative_to(short_folder)
            assert len(list(made.parent.iterdir())) == 2
            if how:
                owner.send_signal(how)
            owner.wait(10)
        finally:
            owner.kill()
    end = time.monotonic() + 10
    while any(short_folder.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.02)
