"""Short excerpts of the tests' evidence for the page: what KVM answered, what the host logged, how the guest died.

A matrix may have a thousand cells, so each excerpt is cut, the same text is kept once, and all of them have a limit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.experiment.observation import Observation, from_json
from cpuidlab.report.cell import Cell
from cpuidlab.report.observation_lines import answer_lines, guest_lines, log_lines, model_lines, note_lines, state_lines

READ_BYTES = 65536  # of a file; logs can be of any length
LINES, WIDTH, REASON_WIDTH = 8, 200, 600
BUDGET = 1_500_000  # characters in all; the page stays under 3 MB
TOO_MUCH = "no more room on this page; see the evidence folder"


@dataclass(frozen=True)
class Excerpt:
    """One part of a cell's evidence: what it is, and its lines."""

    title: str
    text: str


class Excerpts:
    """The excerpts of many cells, each different one kept once, under a number."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is the job's, which the cells' evidence is relative to; without one there are no excerpts."""
        self._folder = folder
        self._numbers: dict[Excerpt, int] = {}
        self._used = 0

    @property
    def all(self) -> tuple[Excerpt, ...]:
        """Every excerpt, by its number."""
        return tuple(self._numbers)

    def of(self, cell: Cell) -> tuple[int, ...]:
        """The numbers of a cell's excerpts."""
        if self._folder is None or not cell.evidence:
            return ()
        return tuple(dict.fromkeys(map(self._number, excerpts(self._folder / cell.evidence))))

    def _number(self, excerpt: Excerpt) -> int:
        if excerpt not in self._numbers:
            if self._used + len(excerpt.text) > BUDGET:
                excerpt = Excerpt("evidence", TOO_MUCH)
            self._used += len(excerpt.text)
        return self._numbers.setdefault(excerpt, len(self._numbers))


def excerpts(folder: Path) -> tuple[Excerpt, ...]:
    """Return what an evidence folder tells in short, the most telling first; missing files are left out."""
    seen = _observation(folder)
    parts = (
        ("the lab's failure", _lines(folder / "lab-failure.txt")),
        ("KVM's answers", answer_lines(seen) if seen else []),
        ("host log since the test began", log_lines(seen) if seen else []),
        ("guest", guest_lines(seen) if seen else []),
        ("KVM's CPUID afterwards", model_lines(seen) if seen else []),
        ("CPUID before and after", _lines(folder / "models-diff.txt")),
        ("state of the vCPUs that calls changed", state_lines(seen) if seen else []),
        ("seen besides", note_lines(seen) if seen else []),
        ("readings", _lines(folder / "readings.txt")),
        ("QEMU said", _lines(folder / "qemu-stderr.txt")),
        ("rerun", _lines(folder / "rerun.txt")),
    )
    texts = ((title, _cut(lines)) for title, lines in parts)
    return tuple(Excerpt(title, text) for title, text in texts if text)


def reason(cell: Cell) -> str:
    """Return a cell's reason as the page shows it; its first line says most, and may be long."""
    return _cut(cell.reason.split("\n"), REASON_WIDTH)


def _observation(folder: Path) -> Observation | None:
    try:
        return from_json("\n".join(_lines(folder / "observation.json")))
    except UsageError:  # no such file, or half of one
        return None


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(READ_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []


def _cut(lines: Iterable[str], width: int = WIDTH) -> str:
    kept = [line if len(line) <= width else f"{line[:width]}…" for line in lines if line.strip()]
    more = [f"… and {len(kept) - LINES} lines more"] if len(kept) > LINES else []
    return "\n".join(kept[:LINES] + more)
