"""The private folder on another machine: kept while the lab is there, gone with all processes when the lab is gone."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.base.paths import TOOLING
from cpuidlab.rig.reach import Reach
from cpuidlab.rig.streams import ChannelLines
from cpuidlab.rig.supervisor import Supervisor

SECONDS = 20.0
HERE = Reach("this machine")
LOCK = f"kvm-cpuid-lab selftest {os.getpid()}"  # a job may be at work on this machine


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled supervisor."""
    path = tmp_path_factory.mktemp("supervisor") / "supervisor"
    source = TOOLING / "supervisor/supervisor.c"
    subprocess.run(["gcc", "-O2", "-static", "-o", path, source], check=True)
    return path


@pytest.fixture
def deadline() -> Deadline:
    """Enough for every step here."""
    return Deadline.after(SECONDS)


@pytest.fixture
def supervisor(program: Path, deadline: Deadline) -> Iterator[Supervisor]:
    """A supervisor on this machine; skipped where namespaces are not to be had."""
    kept = _start(program, deadline)
    yield kept
    kept.close()


def _start(program: Path, deadline: Deadline) -> Supervisor:
    """Start a supervisor of a test; the test is skipped where namespaces are not to be had, as in a chroot."""
    try:
        return Supervisor(HERE, program, deadline, LOCK)
    except LostVMError as error:
        if "does not let us make" in str(error):
            pytest.skip(str(error))
        raise


def _await(look: object, deadline: Deadline) -> None:
    while not look():  # type: ignore[operator]
        assert deadline.left(), "waited in vain"
        time.sleep(0.02)


def _started(supervisor: Supervisor, deadline: Deadline) -> int:
    """Start a process that would go on for ever; return its process id as this machine sees it."""
    mark = f"97{os.getpid()}"
    supervisor.start(f"sleep {mark} & wait", deadline)
    return _find(f"sleep {mark}", deadline)


def _find(command: str, deadline: Deadline) -> int:
    while deadline.left():
        for process in psutil.process_iter(["cmdline"]):
            if " ".join(process.info["cmdline"] or ()) == command:
                return process.pid
        time.sleep(0.02)
    raise AssertionError(f"{command} was never started")


def _gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_file_is_private_and_goes_with_the_folder(supervisor: Supervisor, deadline: Deadline) -> None:
    path = Path(supervisor.put("it's; a file", b"\x00\xff\n", deadline))
    assert path.read_bytes() == b"\x00\xff\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    supervisor.close()
    assert not path.parent.exists()


def test_a_folder_of_an_earlier_boot_is_removed(
    program: Path, deadline: Deadline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a panic of the machine nobody else removes it."""
    today = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    for name in (f"{today}.Abc123", "01234567.Abc123", "other"):
        (tmp_path / f"kvm-cpuid-lab.{name}/saved").mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    kept = _start(program, deadline)
    assert Path(kept.folder).name.startswith(f"kvm-cpuid-lab.{today}.")
    kept.close()
    left = {path.name.removeprefix("kvm-cpuid-lab.") for path in tmp_path.iterdir()}
    assert left == {f"{today}.Abc123", "other"}


def test_what_was_started_ends_with_the_folder(supervisor: Supervisor, deadline: Deadline) -> None:
    process = _started(supervisor, deadline)
    supervisor.close()
    _await(lambda: _gone(process), deadline)


def test_what_was_started_has_a_network_of_its_own(supervisor: Supervisor, deadline: Deadline) -> None:
    supervisor.start('exec >"${0%/*}/net" 2>&1; cat /proc/net/dev; readlink /proc/self/ns/net; echo end', deadline)
    file = Path(supervisor.path("net"))
    _await(lambda: file.exists() and file.read_text().endswith("end\n"), deadline)
    assert "lo" in re.findall(r"(?m)^ *(\w+):", file.read_text())
    assert str(Path("/proc/self/ns/net").readlink()) not in file.read_text()


def test_the_guest_socket_leads_to_its_ssh_port(supervisor: Supervisor, deadline: Deadline) -> None:
    supervisor.start("exec socat TCP-LISTEN:2222,bind=127.0.0.1,fork,reuseaddr EXEC:cat", deadline)
    answer = ""
    while not answer and deadline.left():
        far = supervisor.connect("guest.sock")
        try:
            lines = ChannelLines(far.socket, far.watch)
            lines.send(b"hello\n")
            answer = lines.recv_line(time.monotonic() + 2)
        except LabError:
            time.sleep(0.05)
        finally:
            far.close()
    assert answer == "hello"


def test_changed_settings_are_put_back(supervisor: Supervisor, deadline: Deadline, tmp_path: Path) -> None:
    supervisor.put("undo", f"echo back >{tmp_path}/setting".encode(), deadline)
    supervisor.close()
    assert (tmp_path / "setting").read_text() == "back\n"


@pytest.mark.parametrize("victim", ["keep", "first"])
def test_kill_9_there_leaves_nothing(supervisor: Supervisor, deadline: Deadline, tmp_path: Path, victim: str) -> None:
    supervisor.put("undo", f"echo back >{tmp_path}/setting".encode(), deadline)
    process = _started(supervisor, deadline)
    command = f"{supervisor.path('supervisor')} keep {supervisor.folder} {LOCK}"
    keeper = _find(command, deadline)
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    os.kill(keeper if victim == "keep" else int(children[0]), signal.SIGKILL)
    if victim == "first":  # the keeper lives on, and the lab ends it
        supervisor.close()
    _await(lambda: _gone(process), deadline)
    _await(lambda: not Path(supervisor.folder).exists(), deadline)
    assert (tmp_path / "setting").read_text() == "back\n"


def test_nobody_has_his_turn_before_the_settings_are_back(
    program: Path, supervisor: Supervisor, deadline: Deadline, tmp_path: Path
) -> None:
    supervisor.put("undo", f"sleep 0.5; echo back >{tmp_path}/setting".encode(), deadline)
    os.kill(_find(f"{supervisor.path('supervisor')} keep {supervisor.folder} {LOCK}", deadline), signal.SIGKILL)
    Supervisor(HERE, program, deadline, LOCK).close()
    assert (tmp_path / "setting").read_text() == "back\n"


@pytest.mark.parametrize("way", ["close", "kill here", "kill there"])
def test_the_folder_of_a_job_goes_with_the_lab(program: Path, deadline: Deadline, way: str) -> None:
    job = Supervisor(HERE, program, deadline)
    folder = Path(job.folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    if way == "kill here":
        os.kill(job._far._process.pid, signal.SIGKILL)
    elif way == "kill there":
        os.kill(_find(f"{folder}/supervisor hold {folder}", deadline), signal.SIGKILL)
    else:
        job.close()
    _await(lambda: not folder.exists(), deadline)
    job.close()


def test_a_test_uses_the_program_of_its_job(program: Path, deadline: Deadline) -> None:
    _start(program, deadline).close()
    job = Supervisor(HERE, program, deadline)
    test = Supervisor(HERE, job.path("supervisor"), deadline, LOCK)
    assert not Path(test.path("supervisor")).exists()
    assert Path(test.put("file", b"", deadline)).stat().st_mode & 0o777 == 0o600
    test.close()
    job.close()
    assert not Path(test.folder).exists()
    with pytest.raises(LostVMError, match="this machine: the job's folder is gone"):
        Supervisor(HERE, job.path("supervisor"), deadline, LOCK)


def test_kill_9_here_leaves_nothing(program: Path, supervisor: Supervisor, deadline: Deadline) -> None:
    process = _started(supervisor, deadline)
    os.kill(supervisor._far._process.pid, signal.SIGKILL)
    _await(lambda: _gone(process), deadline)
    _await(lambda: not Path(supervisor.folder).exists(), deadline)
    with pytest.raises(LostVMError):
        supervisor.watch()


def test_a_second_job_waits_for_its_turn(program: Path, supervisor: Supervisor, deadline: Deadline) -> None:
    second: list[Supervisor] = []
    waiting = threading.Thread(target=lambda: second.append(Supervisor(HERE, program, deadline, LOCK)))
    waiting.start()
    waiting.join(1.0)
    assert not second
    supervisor.close()
    waiting.join(deadline.left())
    assert second
    second[0].close()
    _await(lambda: not Path(second[0].folder).exists(), deadline)


def test_no_room_is_one_clear_line(program: Path, deadline: Deadline) -> None:
    nowhere = Reach("the machine", ("sh", "-c", 'TMPDIR=/proc/nowhere exec sh -c "$0"'))
    with pytest.raises(LostVMError, match=r"the machine: mktemp: .*No such file or directory"):
        Supervisor(nowhere, program, deadline, LOCK)
