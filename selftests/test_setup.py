"""Set-up from a bare machine: what a second run does, what the screen shows, and what an interrupted run leaves."""

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from baremachine import PYTHON, Machine, fails_in_one_line, lacks_cpuid
from cpuidlab.base.paths import PROJECT
from waiting import until


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_second_setup_does_nothing_and_is_quick(machine: Machine) -> None:
    assert machine.setup().returncode == 0
    calls = machine.noted("pip-calls")
    assert [("--require-hashes" in call, "--no-build-isolation" in call) for call in calls] == [
        (True, False), (False, True)
    ]  # fmt: skip
    seconds = []
    for _ in range(3):  # the machine may be busy with something else
        started = time.monotonic()
        done = machine.setup()
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.3
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.noted("pip-calls") == calls
    assert machine.noted("apt-calls") == []


def test_only_content_makes_a_step_run_again(machine: Machine) -> None:
    machine.setup()
    (machine.project / "setup.cfg").touch()
    machine.setup()
    assert len(machine.noted("pip-calls")) == 2
    (machine.project / "setup.cfg").write_text("[metadata]\nname = other\n")
    machine.setup()
    assert len(machine.noted("pip-calls")) == 3
    (machine.project / "tooling/requirements.lock").write_text("other==1\n")
    machine.setup()
    assert len(machine.noted("pip-calls")) == 5


# An apt that fetches two packages and has much to say.
APT = """case " $* " in *" --print-uris "*)
    echo "Reading package lists..."
    echo "'http://mirror/a.deb' a.deb 1500000 MD5Sum:0"
    echo "'http://mirror/b.deb' b.deb 700001 SHA256:0"; exit ;;
esac
echo "$@" >>apt-calls
echo "Setting up cpuid"; echo "W: careful" >&2"""


def test_what_apt_and_pip_say_goes_to_the_log_and_the_screen_has_short_lines(machine: Machine) -> None:
    lacks_cpuid(machine)
    machine.has("apt-get", APT)
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    shown = re.sub(r"\d+ s\)", "N s)", done.stderr).splitlines()
    assert shown == [
        "  .. set-up, needed once: all that apt and pip say goes to setup.log",
        "  .. installing system packages: cpuid",
        "     apt fetches 3 MB in 2 packages",
        "  ok system packages (N s)",
        f"  .. installing {packages_locked()} Python packages into .venv: about 40 MB, about a minute",
        "  ok Python packages (N s)",
        "  ok cpuidlab in .venv",
    ]
    log = (machine.project / "setup.log").read_text()
    assert [text for text in ("Setting up cpuid", "W: careful", "Collecting thing==1") if text not in log] == []


def test_what_an_interrupted_run_has_fetched_is_not_fetched_again(machine: Machine) -> None:
    lacks_cpuid(machine)
    assert "     nothing has to be fetched\n" in machine.setup("packages").stderr
    machine.has("apt-get", '[[ $* != *--print-uris* ]] || { echo "E: no idea"; exit 100; }')
    done = machine.setup("packages")
    assert done.returncode == 0
    assert "fetche" not in done.stderr  # it could not tell


def packages_locked() -> int:
    return (PROJECT / "tooling/requirements.lock").read_text().count("==")


def test_a_setup_without_work_leaves_the_log_of_the_last_one(machine: Machine) -> None:
    machine.setup()
    log = (machine.project / "setup.log").read_text()
    machine.setup()
    assert (machine.project / "setup.log").read_text() == log != ""


def group_of(leader: int) -> Iterator[psutil.Process]:
    """The processes that live in that group."""
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                yield process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["apt", "venv", "pip"])
def test_a_setup_that_is_interrupted_leaves_no_child_and_the_next_one_goes_on(
    machine: Machine, where: str, number: signal.Signals
) -> None:
    hang = ": >hangs; exec sleep 60"  # no program that could end by itself just when the signal comes
    if where == "apt":
        lacks_cpuid(machine)
        machine.has("apt-get", f"[[ $* == *--print-uris* || -e hangs ]] || {{ {hang}; }}")
    else:
        at = 'cp "$0" .venv/bin/python' if where == "venv" else 'echo "Collecting thing==1"'
        machine.has("python3", PYTHON.replace(at, f"{at}; [[ -e hangs ]] || {{ {hang}; }}"))
    (machine.programs / "sleep").symlink_to(shutil.which("sleep") or pytest.skip("no sleep here"))
    with machine.begun() as process:
        until((machine.project / "hangs").exists)
        os.killpg(process.pid, number)  # as a terminal does: the whole group
        _, err = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    said = [line for line in err.splitlines() if not line.startswith("  ") and line != "Terminated"]  # bash's own word
    assert said == ["setup: interrupted; 'make setup' goes on from here"]
    until(lambda: not list(group_of(process.pid)))
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert "ok cpuidlab in .venv" in done.stderr
    assert machine.setup().stderr == "" or where == "apt"  # there cpuid is missing for ever


def test_an_unknown_step(machine: Machine) -> None:
    assert "unknown step 'nonsense'" in fails_in_one_line(machine.setup("nonsense"))
