"""What a job has decided so far, written down as each test ends, so that an interrupted job can go on from there."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from cpuidlab.avocado_plugin.cell_file import read_cell
from cpuidlab.base.artifacts import file_digest, key_of
from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import GUESTS, TOOLING
from cpuidlab.judge.verdict import Verdict

FILE = "journal.jsonl"
_SUFFIXES = {".py", ".toml", ".c", ".h", ".patch", ".list"}


@dataclass(frozen=True)
class Line:
    """One test that has ended: FILE:CLASS.METHOD, variant, what its result depends on, Avocado's word, its folder."""

    test: str
    variant: str
    key: str
    status: str
    reason: str
    folder: str


def note(job: Path, line: Line) -> None:
    """Add a line to the job's journal; what stands there is on the disk, whatever ends the job."""
    with (job / FILE).open("a") as file:
        file.write(json.dumps(asdict(line)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def decided(job: Path, today: Callable[[str, str], str]) -> dict[tuple[str, str], Line]:
    """The lines of a job whose verdict still stands, by test and variant: each had one that is no ERROR, agreed with
    it to its end, and depended on what it would depend on `today`.

    Raises UsageError where there is no such job. Half a line at the end is what a killed job leaves.
    """
    try:
        texts = (job / FILE).read_text().splitlines()
    except OSError as error:
        raise UsageError(f"--resume {job}: there is no journal of a job: {error.strerror}") from error
    lines = {(line.test, line.variant): line for line in map(_line, texts) if line}
    return {name: line for name, line in lines.items() if today(*name) == line.key and _stands(line)}


def take_over(line: Line, folder: Path) -> None:
    """Copy a test's evidence from the folder of the job that decided it."""
    shutil.copytree(line.folder, folder, dirs_exist_ok=True)


def key(test: str, place: str, era: str, cold: bool) -> str:
    """What a verdict depends on: the place's kernels and QEMU (Setup.identity), the project's files, the test's own
    file, and how it was judged and run. Other programs of this machine that go into the images are left out."""
    file = Path(test.rpartition(":")[0] or test)
    own = file_digest(file) if file.is_file() else ""
    return key_of({"place": place, "era": era, "cold": str(cold), "project": project_digest(), "test": own})


@cache
def project_digest() -> str:
    """Changes with the project's code and data: the tooling's files and what runs in the VMs."""
    files = [path for path in TOOLING.rglob("*") if path.suffix in _SUFFIXES and path.is_file()]
    files += [path for path in GUESTS.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return key_of({str(path): file_digest(path) for path in files})


def _line(text: str) -> Line | None:
    try:
        return Line(**json.loads(text))
    except (ValueError, TypeError):
        return None


def _stands(line: Line) -> bool:
    from cpuidlab.avocado_plugin.results import agrees  # noqa: PLC0415  that module needs a plan, this one must stay light

    try:
        cell = read_cell(Path(line.folder, "data"))
    except UsageError:
        return False
    return cell is not None and cell.verdict is not Verdict.ERROR and agrees(cell.verdict, line.status)
