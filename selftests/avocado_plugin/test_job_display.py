"""A job's progress on a terminal and in a pipe: what is printed, what is not, and that no defect of it ends a job."""

import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from avocado.core.output import LOG_UI
from cpuidlab.avocado_plugin import current_job, job_display, plan, progress_plugin
from cpuidlab.avocado_plugin.estimate import Outlook
from cpuidlab.avocado_plugin.job_display import Lively, Plain
from cpuidlab.avocado_plugin.job_progress import JobProgress
from cpuidlab.base import progress
from cpuidlab.base.speed import Speed
from fakeavocado import avocado, said, start
from fakesetup import fake_setup
from rich.console import Console
from waiting import until

ONE = ("--hosts", "5.10", "--paging", "npt")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture
def job() -> JobProgress:
    return JobProgress(Outlook(("5.10",), ("npt",), 2, False, (), (), 0, 0, 3), Speed({}), 2)


@pytest.fixture(autouse=True)
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a terminal of 200 columns is sent."""
    monkeypatch.setenv("TERM", "xterm")  # a dumb terminal gets no live line
    console = Console(file=io.StringIO(), force_terminal=True, width=200, soft_wrap=True, highlight=False)
    monkeypatch.setattr(job_display, "console", lambda: console)
    monkeypatch.setattr(progress, "console", lambda: console)
    monkeypatch.setattr(progress, "watcher", progress.watcher)
    yield console.file  # type: ignore[misc]


def test_a_step_is_two_lines_and_a_failed_one_is_one(screen: io.StringIO) -> None:
    with progress.step("list"):
        pass
    with pytest.raises(ValueError, match="no"), progress.step("kernel"):
        raise ValueError("no")
    assert re.sub(r"\d\.\d", "N", screen.getvalue()) == "  .. list\n  ok list (N s)\n  .. kernel\n"


def test_without_a_terminal_steps_are_lines_and_the_rest_is_told_each_minute(
    job: JobProgress, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_display, "TELL_SECONDS", 0.02)
    display = Plain(job)
    job_display.show(display)
    display.start()
    with progress.step("rigs: 5.10-npt-host"):
        until(lambda: screen.getvalue().count("  -- rigs 0 of 3, cells 0 of 2; about") > 1)
    display.stop()
    shown = screen.getvalue()
    assert "  .. rigs: 5.10-npt-host\n" in shown
    assert "  ok rigs: 5.10-npt-host (" in shown
    assert "\x1b" not in shown
    time.sleep(0.1)
    assert len(screen.getvalue()) - len(shown) < 100  # at most the line that was on its way
    assert job.line().startswith("rigs 1 of 3")


def test_on_a_terminal_there_is_one_line_with_the_steps_in_it(job: JobProgress, screen: io.StringIO) -> None:
    display = Lively(job)
    job_display.show(display)
    display.start()
    with progress.step("rigs: 5.10-npt-host"):
        until(lambda: "  -- rigs 0 of 3, cells 0 of 2; about a minute left; now 5.10-npt-host" in screen.getvalue())
        progress.say("  !! something")
    display.stop()
    assert "  .. rigs" not in screen.getvalue()
    assert "  !! something\n" in ESCAPE.sub("", screen.getvalue())
    assert screen.getvalue().rstrip().endswith("\x1b[2K")  # the line is gone
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h") == 1  # the cursor is back
    assert job.line().startswith("rigs 1 of 3")


def test_what_avocado_prints_comes_above_the_line(job: JobProgress, screen: io.StringIO) -> None:
    elsewhere = io.StringIO()
    handler = logging.StreamHandler(elsewhere)
    LOG_UI.addHandler(handler)
    try:
        display = Lively(job)
        display.start()
        LOG_UI.warning("look")
        display.stop()
        display.stop()
        LOG_UI.warning("after")
    finally:
        LOG_UI.removeHandler(handler)
    assert "look\n" in ESCAPE.sub("", screen.getvalue())
    assert elsewhere.getvalue() == "after\n"


def test_a_defect_of_the_line_is_told_in_it(job: JobProgress, screen: io.StringIO) -> None:
    job.line = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    display = Lively(job)
    display.start()
    progress.say("goes on")
    display.stop()
    assert "!! no progress can be shown: ZeroDivisionError" in screen.getvalue()
    assert "goes on\n" in screen.getvalue()


def test_a_defect_of_the_counting_is_told_and_the_step_goes_on(job: JobProgress, screen: io.StringIO) -> None:
    job.step_ended = lambda *_: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    job_display.show(Plain(job))
    with progress.step("rigs: x"):
        pass
    assert "!! the progress is not shown as it should: ZeroDivisionError" in screen.getvalue()


# the plug-in


@pytest.mark.parametrize(
    ("config", "left_out"),
    [
        ({}, True),
        ({"core.show": {"app"}}, True),
        ({"core.show": {"app", "test"}}, False),
        ({"core.show": {"all"}}, False),
        ({"human_ui.omit.statuses": ["SKIP"]}, False),  # the user's own choice
    ],
)
def test_avocados_own_lines_are_left_out_where_nobody_asks_for_them(config: dict[str, Any], left_out: bool) -> None:
    before = config.get("human_ui.omit.statuses")
    progress_plugin.leave_out_tests(config)
    assert (config.get("human_ui.omit.statuses") != before) is left_out
    assert not left_out or {"PASS", "FAIL", "STARTED"} <= set(config["human_ui.omit.statuses"])


def test_a_lab_in_trouble_does_not_fill_the_screen(
    job: JobProgress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plan, "setup", fake_setup)
    monkeypatch.setattr(current_job.job, "display", Plain(job))
    monkeypatch.setattr(current_job.job, "plan", plan.plan("5.10", "npt"))
    told = progress_plugin.Progress({})
    job.begin({"5.10-npt": 40}, {})
    caplog.set_level(logging.DEBUG, LOG_UI.name)
    for number in range(40):
        name = SimpleNamespace(uid=number, name="tests/test_run.py:Run.test_t", variant="5.10-npt")
        kind = {"fail_class": "NoRig", "fail_reason": "never begun"} if number < 10 else {}
        told.end_test(
            None, {"name": name, "status": "ERROR", "logdir": str(tmp_path), "job_logdir": str(tmp_path), **kind}
        )
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if line.startswith("  ERROR run/t, 5.10 npt: ")]) == progress_plugin.MOST
    assert "never begun" not in "".join(lines)  # the place's trouble was told when it came
    assert lines[-2:] == ["  further ones on 5.10-npt are told at the end", "  5.10-npt  40 cells: 40 ERROR"]


# Avocado itself, on the stand-ins of test_plugins


def test_a_job_in_a_pipe(tmp_path: Path) -> None:
    soon = "from cpuidlab.avocado_plugin import job_display; job_display.TELL_SECONDS = 0.1\n"
    tests = [f"test_it.py:Run.test_{name}" for name in ("good", "bad", "known", "skip")]
    done = avocado(tmp_path, *tests, *ONE, before=soon)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert done.stderr.startswith(
        "  -- this job\n     1 host (5.10) x npt x 4 tests = 4 cells\n     to fetch: kernels "
    )
    assert "\n     about 2 minutes on this machine: " in done.stderr
    assert "\n  -- rigs 0 of 3, cells 0 of 4; about" in done.stderr
    assert said(done) == ["2-test_it.py:Run.test_bad;5.10-npt: FAIL"]  # Avocado's summary
    assert "test_it.py" not in done.stdout
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("  ")][:2] == [
        "  FAIL case (hook), 5.10 npt: why",
        "  5.10-npt  4 cells: 1 PASS, 1 KNOWN, 1 FAIL, 1 SKIP",
    ]
    heads = ("JOB ID", "JOB LOG", "RESULTS", "JOB TIME", "MATRIX")
    assert [head for head in heads if not any(line.startswith(f"{head} ") for line in lines)] == []


def test_whoever_asks_for_more_has_avocados_own_lines(tmp_path: Path) -> None:
    more = "import sys; sys.argv[1:1] = ['--show', 'app,avocado.test']\n"
    done = avocado(tmp_path, "test_it.py:Run.test_good", *ONE, before=more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_it.py:Run.test_good;5.10-npt" in done.stdout
    assert "1 cell: " not in done.stdout


def test_the_next_job_reckons_with_what_this_one_took(tmp_path: Path) -> None:
    cells = ["test_it.py:Run.test_good"] * 2
    few = """
from cpuidlab.avocado_plugin import estimate
from cpuidlab.base import speed
estimate.RIGS, speed.ENOUGH = 0, {"cell": 2}
"""
    for guessed in (True, False):
        done = avocado(tmp_path, *cells, *ONE, before=few)
        assert done.returncode == 0, done.stdout + done.stderr
        kept = json.loads((tmp_path / ".cache/kvm-cpuid-lab/speed.json").read_text())["seconds"]
        assert 0.05 < kept["cell"] < 60
        assert ("no job on this machine has measured" in done.stderr) is guessed


def test_a_display_with_a_defect_breaks_no_job(tmp_path: Path) -> None:
    broken = """
from cpuidlab.avocado_plugin import estimate
def outlook(*_):
    raise RuntimeError('oops')
estimate.outlook = outlook
"""
    done = avocado(tmp_path, "test_it.py:Run.test_good", *ONE, before=broken)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said(done) == ["  !! the progress is not shown as it should: RuntimeError: oops; a defect of the lab"]


def on_a_terminal(folder: Path, *words: str, interrupt_at: Path | None = None) -> tuple[int, str]:
    """Run a job whose streams are a terminal; its exit code and what the terminal was sent."""
    ours, theirs = pty.openpty()
    shown = b""
    with start(folder, *words, streams=theirs) as process:
        try:
            os.close(theirs)
            end = time.monotonic() + 60
            while time.monotonic() < end:
                if interrupt_at and interrupt_at.exists():
                    time.sleep(0.5)
                    process.send_signal(signal.SIGINT)
                    interrupt_at = None
                try:
                    shown += os.read(ours, 65536)
                except OSError:  # the other side is closed
                    break
            return process.wait(20), shown.decode().replace("\r\n", "\n")
        except subprocess.TimeoutExpired:
            pytest.fail(shown.decode())
        finally:
            process.kill()
            os.close(ours)


def test_a_job_on_a_terminal(tmp_path: Path) -> None:
    code, shown = on_a_terminal(tmp_path, "test_it.py:Run.test_good", "test_it.py:Run.test_bad", *ONE)
    plain = ESCAPE.sub("", shown)
    assert code == 1, plain
    assert "  -- this job\n     1 host (5.10) x npt x 2 tests = 2 cells\n" in plain
    assert "  -- rigs 0 of 3, cells 0 of 2; about " in plain
    assert "\n  FAIL case (hook), 5.10 npt: why\n" in plain.replace("\r", "\n")
    assert "\n  5.10-npt  2 cells: 1 PASS, 1 FAIL\n" in plain.replace("\r", "\n")
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0
    assert "MATRIX     : " in plain[plain.rindex("  -- rigs") :]  # printed when the line was gone


def test_ctrl_c_gives_the_cursor_back(tmp_path: Path) -> None:
    code, shown = on_a_terminal(tmp_path, "test_it.py:Run.test_long", *ONE, interrupt_at=tmp_path / "pids")
    assert code == 130, shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0
