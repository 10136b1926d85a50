"""One night: the newest kernels, the whole matrix, what has changed since the last good night, and a short report.

A night is made in the folder `running` of the results and gets its own name when it is whole, so nothing half done is
ever shown. What a reboot has left in `running` is resumed.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from cpuidlab.avocado_plugin import all_hosts, journal
from cpuidlab.base import artifact_gc
from cpuidlab.base.atomic import write_atomically
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.exit_codes import BROKEN, OK, UNTESTED
from cpuidlab.base.paths import PROJECT
from cpuidlab.commands import avocado_job
from cpuidlab.experiment import ask_kernel  # noqa: F401  it registers what is pruned
from cpuidlab.judge.verdict import Verdict
from cpuidlab.kernels import catalogue, host_spec, lookup
from cpuidlab.report import matrix_file
from cpuidlab.report.matrix import grid
from cpuidlab.report.render import render
from cpuidlab.report.summary import summary
from cpuidlab.report.write import UNFINISHED, read_about

SAID = {OK: "all as promised", BROKEN: "a promise is broken", UNTESTED: "not all could be tested"}
FACTS = "night.json"
ROOM_BYTES = 1_000_000  # with less a job may not even be able to say what is wrong


@dataclass(frozen=True)
class Night:
    """One night that is whole: its folder's name, the job's exit code, the summary, what went wrong around it, and
    what `cpuidlab compare` said against the last good night before it; `worse` is that command's exit code."""

    name: str
    code: int
    summary: str
    notes: tuple[str, ...]
    against: str
    worse: int
    changes: str
    seconds: int
    whole: bool = True  # no test was an ERROR, and none was not run

    @property
    def is_good(self) -> bool:
        """Whether all could be tested, so that a later night can be held against it."""
        return self.whole and self.code in (OK, BROKEN)

    @property
    def verdict(self) -> str:
        """The night in a few words."""
        return f"worse than {self.against}" if self.worse == BROKEN else SAID[self.code]


def main(out: Path, keep: int, hosts: str, words: Sequence[str]) -> int:
    """Run one night into the folder `out` and print its report; the exit code is the job's, or 1 if it got worse.

    Raises UsageError for bad words, LabError where another night is running or this one has no result.
    """
    if keep < 1:
        raise UsageError("--keep must be at least 1")
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(str(out / "nightly.lock")).acquire(blocking=False):
            night = run(out, hosts, words)
            _forget(out, keep)
            write_index(out)
            artifact_gc.prune()
    except Timeout:
        raise LabError(f"another night is running into {out}") from None
    print(report(out, night))
    return BROKEN if night.worse == BROKEN else night.code


def run(out: Path, hosts: str, words: Sequence[str]) -> Night:
    """Make a night and give it its place among the others."""
    began = time.time()
    notes = _newest(hosts)
    latest = out / "running/latest"
    before = latest.resolve()
    code = _job(out / "running", hosts, words)
    job = latest.resolve()
    try:
        cells = matrix_file.read(job / "matrix.json")
    except UsageError:
        cells = ()
    if code not in SAID or not cells or job == before:
        if shutil.disk_usage(out).free < ROOM_BYTES:
            raise LabError(f"the night has no result, there is no room left in {out}: free some, then run again")
        raise LabError(f"the night has no result, the job ended with {code}: {_last_line(out / 'running/avocado.log')}")
    name = time.strftime("%Y-%m-%d_%H%M%SZ", time.gmtime())
    against = next((old for old in nights(out) if old.is_good), None)
    worse, changes = _compared(out / against.name / "matrix.json", job / "matrix.json") if against else (OK, "")
    seconds = int(time.time() - began)
    errors = any(cell.verdict is Verdict.ERROR for cell in cells)
    whole = not errors and UNFINISHED not in read_about(job)[0]
    in_short = summary(cells, grid(cells))
    night = Night(name, code, in_short, tuple(notes), against.name if against else "", worse, changes, seconds, whole)
    (job / FACTS).write_text(json.dumps(asdict(night), indent=1) + "\n")
    job.rename(out / name)
    shutil.rmtree(out / "running")
    return night


def nights(out: Path) -> list[Night]:
    """The nights that are whole, the newest first."""
    found = []
    for file in sorted(out.glob(f"[0-9]*/{FACTS}"), reverse=True):
        with suppress(ValueError, TypeError, KeyError):  # what is not ours or not whole is none
            raw = json.loads(file.read_text())
            found.append(Night(**{**raw, "notes": tuple(raw["notes"])}))
    return found


def report(out: Path, night: Night) -> str:
    """What fits into a mail; its first line is the mail's subject."""
    parts = [f"CPUID matrix {night.name}: {night.verdict}", night.summary]
    parts += [f"Note: {note}" for note in night.notes]
    if night.against:
        parts.append(f"Against {night.against}:\n{night.changes or 'nothing was said'}")
    return "\n\n".join([*parts, f"Page: {out / night.name / 'matrix.html'}"])


def write_index(out: Path) -> None:
    """Write the page that leads to every night, aside first."""
    write_atomically(out / "index.html", render("nights.html.j2", nights=nights(out)))


def _newest(hosts: str) -> list[str]:
    """Fetch the newest builds of the hosts' kernels; what could not be done."""
    asked = host_spec.split_hosts(hosts)
    for spec in asked:
        if spec != all_hosts.ALL:
            host_spec.parse(spec)
    trouble, notes = catalogue.ask_archive(), catalogue.ask_own_suites()
    if trouble:
        return [trouble, *notes]
    bases = {host_spec.parse(spec).base: None for spec in all_hosts.expand(asked)}
    if "newest" in bases:
        bases[lookup.newest_series(refresh=True)] = None
    return notes + lookup.renew([base for base in bases if base not in ("", "newest")])


def _job(running: Path, hosts: str, words: Sequence[str]) -> int:
    """Run the matrix; go on with the one that was interrupted, if there is one. Returns Avocado's exit code."""
    running.mkdir(exist_ok=True)
    last = running / "latest"
    resume = ["--resume", str(last.resolve())] if (last / journal.FILE).exists() else []
    command = avocado_job.command_line(words or ["tests/"], running.resolve(), "--hosts", hosts, *resume)
    with (running / "avocado.log").open("w") as log:
        done = subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
    return done.returncode


def _compared(old: Path, new: Path) -> tuple[int, str]:
    """What `cpuidlab compare` says, and its exit code: 1 if anything got worse."""
    command = [str(Path(sys.executable).with_name("cpuidlab")), "compare", str(old), str(new)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return done.returncode, (done.stdout.strip() or done.stderr.strip())


def _forget(out: Path, keep: int) -> None:
    """Remove all but the newest `keep` nights and the last good one."""
    there = nights(out)
    good = next((night for night in there if night.is_good), None)
    for night in there[keep:]:
        if night != good:
            aside = out / f".{night.name}.gone"
            (out / night.name).rename(aside)
            shutil.rmtree(aside)
    for left in out.glob(".*.gone"):
        shutil.rmtree(left, ignore_errors=True)


def _last_line(file: Path) -> str:
    try:
        lines = file.read_text(errors="replace").strip().splitlines()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return lines[-1] if lines else "it said nothing"
