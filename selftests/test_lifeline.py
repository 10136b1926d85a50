"""A process ends with the one that it watches, however that one ends."""

import signal
import subprocess
import sys

WATCHER = "import sys, time; from cpuidlab.lifeline import die_with; die_with(int(sys.argv[1])); print('up', flush=True); time.sleep(60)"  # noqa: E501


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
