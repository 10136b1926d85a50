"""The command `cpuidlab merge`: one matrix of several jobs that ran apart."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cpuidlab.avocado_plugin.results import exit_code
from cpuidlab.base.error_text import printable
from cpuidlab.base.errors import UsageError
from cpuidlab.base.exit_codes import BROKEN
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report import matrix_file, terminal
from cpuidlab.report.cell import Cell
from cpuidlab.report.merge import Job, Merged, merge
from cpuidlab.report.report import Report, report_of
from cpuidlab.report.summary import count
from cpuidlab.report.write import UNFINISHED, read_about, write_all

JOB_LOG = "job.log"  # only the folder of an Avocado job has one


def main(paths: Sequence[Path], out: Path) -> int:
    """Merge the matrices, each given as a file or as its job's folder, into the folder `out`, and print the result.

    Returns 1 where any job saw a broken promise, else 125 where jobs disagree or something was not tested, else 0.
    Raises UsageError where a matrix cannot be read or `out` cannot be written.
    """
    target = out.resolve()
    files = {matrix_file.file_of(path): path for path in paths}  # a matrix that is named twice is one job
    if (target / JOB_LOG).exists() or target / matrix_file.NAME in files:
        raise UsageError(f"{out} holds the matrix of a job, which would be overwritten; name another folder with --out")
    jobs = [_job(file, path, target) for file, path in files.items()]
    merged = merge(jobs)
    report = report_of(merged.cells, header=merged.header, planned=merged.planned)
    _write(report, target)
    for line in (*terminal.lines(report), *_lines(jobs, merged)):
        print(line)
    print(f"MATRIX     : {out / 'matrix.html'}")
    every = (*merged.cells, *merged.in_conflict)  # a promise that one job saw broken must not get lost
    return exit_code(every, unfinished=sum(UNFINISHED in job.header for job in jobs))


def _job(file: Path, path: Path, target: Path) -> Job:
    """Read the matrix of a job, named by the path that the user gave, and what stands beside it."""
    _check_path(str(file))
    folder = os.path.relpath(file.parent, target)
    cells = tuple(_from(folder, cell) for cell in matrix_file.read(file))
    header, planned = read_about(file.parent) if file.name == matrix_file.NAME else ({}, [])
    name = path.parent if path.name == matrix_file.NAME else path
    return Job(printable(str(name)), cells, header, tuple(planned))


def _check_path(path: str) -> None:
    """Raise UsageError for a path that is no text: the merged matrix could not name the evidence."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the path {path!r} is no text in UTF-8; rename it") from None


def _from(folder: str, cell: Cell) -> Cell:
    """Return the cell with its evidence relative to the merged matrix; an absolute path stays."""
    return replace(cell, evidence=str(Path(folder, cell.evidence))) if cell.evidence else cell


def _write(report: Report, target: Path) -> None:
    """Write the files aside first, so that a failure leaves what was there before."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".merge-", dir=target) as aside:
            write_all(report, target, into=Path(aside))
            for file in sorted(Path(aside).iterdir()):
                file.replace(target / file.name)
    except OSError as error:
        raise UsageError(f"cannot write into {target}: {error.strerror}") from error


def _lines(jobs: Sequence[Job], merged: Merged) -> Iterator[str]:
    """Yield what is printed of the merging itself."""
    several = f"{merged.alike} with the same result, {len(merged.conflicts)} with different results"
    yield f"Merged: {count(len(jobs), 'job')}, {count(len(merged.cells), 'cell')}; in several jobs: {several}."
    broken = sum(cell.verdict is Verdict.FAIL for cell in merged.in_conflict)
    if broken:
        yield f"FAIL is {broken} of the different results, so the exit code is {BROKEN}."
    for host, releases in merged.mixed.items():
        kernels = (f"{release} ({', '.join(names)})" for release, names in releases.items())
        yield printable(f"{host} is not the same kernel in all jobs: {', '.join(kernels)}")
    for job in jobs:
        if UNFINISHED in job.header:
            yield printable(f"{job.name} was cut short, not run: {job.header[UNFINISHED]}")
