"""Avocado with our plug-ins, on a stand-in for the kernels."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from cpuidlab.base.paths import TOOLING

STAND_IN = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in a shell's background ignores Ctrl-C
from pathlib import Path
from types import SimpleNamespace as Space
from cpuidlab.avocado_plugin import estimate, plan, results
from cpuidlab.base.errors import LabError
def setup(spec, paging, accel):
    kernel = Space(spec=spec, label=spec, release=spec + ".0", version="5.10", suite="", digest=spec)
    names = dict.fromkeys(("name", "identity", "boot"), spec + "-" + paging)
    return Space(kernel=kernel, column=spec, paging=paging, accel="tcg", guest_kernel=kernel, **names)
HOW = os.environ["HOW"]
def freeze(one):
    if HOW == "broken" or HOW == "broken " + one.kernel.label:
        raise LabError("no boot today")
    if HOW == "slow " + one.kernel.label:
        end = time.monotonic() + 30
        while not any(Path().glob("results/job-*/test-results/*/data/cell.json")) and time.monotonic() < end:
            time.sleep(0.05)
        Path("saved").touch()
    if HOW == "never " + one.kernel.label:
        Path("waits").touch()
        time.sleep(60)
def prepare(job, real=plan.prepare):
    if HOW == "defect":
        raise RuntimeError("oops")
    if HOW == "interrupted":
        raise KeyboardInterrupt
    if HOW == "terminated":
        os.kill(os.getpid(), 15)
    return real(job)
plan.setup, plan.prepare = setup, prepare
estimate.rigs_to_make, estimate.emulator = lambda one: 3, lambda accel: None
results.emulator_version = lambda accel: "QEMU 7"
plan.host_snapshot, plan.guest_snapshot, plan.probe = freeze, lambda *_: None, lambda *_: None
from avocado.core.main import main
sys.exit(main())
"""
TESTS = """
import os, signal, time
from dataclasses import replace
from pathlib import Path
import avocado
from cpuidlab.avocado_plugin.cell_file import write_cell
from cpuidlab.base.die_with_parent import die_with
from cpuidlab.report.cell import Cell
from cpuidlab.judge.verdict import Verdict

class Run(avocado.Test):
    def write(self, verdict="PASS"):
        values = [self.params.get(key) for key in ("host", "paging", "era", "cold")]
        assert os.environ["CPUIDLAB_JOB_PID"]
        host, paging = values[:2]
        cell = Cell("case", host, "r", paging, "hook", "tcg", "p", repr(values), None, Verdict(verdict), "why", "")
        write_cell(cell, Path(self.outputdir))
    def test_good(self):
        self.write()
    def test_bad(self):
        with Path("count").open("a") as file:
            file.write("b")
        self.write("FAIL")
        self.fail("why")
    def test_known(self):
        self.write("KNOWN")
    def test_warn(self):
        self.write("WARN")
        self.log.warning("why")
    def test_skip(self):
        self.write("SKIP")
        self.cancel("why")
    def test_error(self):
        self.write("ERROR")
        self.error("why")
    def test_seen(self):
        host = self.params.get("host")
        seen = str(Path("saved").exists())
        cell = Cell("seen", host, "r", "npt", "hook", "tcg", "p", seen, None, Verdict.PASS, "why", "")
        write_cell(cell, Path(self.outputdir))
    def test_killed(self):
        self.write()
        os.kill(os.getpid(), signal.SIGKILL)
    def test_runner_killed(self):
        self.write()
        Path("orphan").write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    def test_long(self):
        die_with(int(os.environ["CPUIDLAB_JOB_PID"]))
        Path("pids.partial").write_text(f"{os.getpid()} {os.getppid()}")
        Path("pids.partial").rename("pids")
        time.sleep(60)
"""


def start(
    folder: Path, *words: str, how: str = "well", before: str = "", streams: int = subprocess.PIPE
) -> "subprocess.Popen[str]":
    """Start `avocado run` in `folder` with a HOME of its own; `before` is done in Python before it."""
    (folder / "test_it.py").write_text(TESTS)
    return subprocess.Popen(
        [sys.executable, "-c", before + STAND_IN, "run", *words, "--job-results-dir", "results"],
        cwd=folder, text=True, stdout=streams, stderr=streams,
        env={
            "TERM": "xterm", "COLUMNS": "120",
            "HOME": str(folder), "TMPDIR": tempfile.gettempdir(), "HOW": how,
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(TOOLING),  # this package, wherever the environment's comes from
        },
    )  # fmt: skip


def avocado(folder: Path, *words: str, how: str = "well", before: str = "") -> "subprocess.CompletedProcess[str]":
    """Run `avocado run` to its end."""
    with start(folder, *words, how=how, before=before) as process:
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def said(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """The lines on stderr that are not progress."""
    return [line for line in done.stderr.splitlines() if not line.startswith(("  -- ", "     "))]


def matrix_of(folder: Path) -> list[dict[str, str]]:
    cells: list[dict[str, str]] = json.loads((folder / "results/latest/matrix.json").read_text())["cells"]
    return cells
