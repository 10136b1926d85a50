"""Short excerpts of the tests' evidence for the page: what KVM answered, what the host logged, how the guest died.

A matrix may have a thousand cells, so each excerpt is cut, the same text is kept once, and all of them have a limit.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.experiment.observation import Observation, from_json
from cpuidlab.report.matrix import Cell

READ_BYTES = 65536  # of a file; logs can be of any length
LINES, WIDTH, REASON_WIDTH = 8, 200, 600
BUDGET = 1_500_000  # characters in all; the page stays under 3 MB
TOO_MUCH = "no more room on this page; see the evidence folder"
_MODEL = {
    "asked": "what was asked for",
    "before": "what it was before",
    "other": "neither what was asked for nor what it was before",
    None: "not read back",
}


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
        return tuple(dict.fromkeys(self._number(one) for one in excerpts(self._folder / cell.evidence)))

    def _number(self, excerpt: Excerpt) -> int:
        if excerpt not in self._numbers:
            if self._used + len(excerpt.text) > BUDGET:
                excerpt = Excerpt("evidence", TOO_MUCH)
            self._used += len(excerpt.text)
        return self._numbers.setdefault(excerpt, len(self._numbers))


def excerpts(folder: Path) -> tuple[Excerpt, ...]:
    """What an evidence folder tells in short, the most telling first; missing files are left out."""
    parts = [(title, _cut(tell(folder))) for title, tell in _PARTS]
    return tuple(Excerpt(title, text) for title, text in parts if text)


def reason(cell: Cell) -> str:
    """A cell's reason as the page shows it; its first line says most, and may be long."""
    return _cut(cell.reason.split("\n"), REASON_WIDTH)


def _observed(tell: Callable[[Observation], Iterable[str]]) -> Callable[[Path], Iterable[str]]:
    def read(folder: Path) -> Iterable[str]:
        try:
            return tell(from_json("\n".join(_lines(folder / "observation.json"))))
        except UsageError:
            return ()

    return read


def _file(name: str) -> Callable[[Path], Iterable[str]]:
    return lambda folder: _lines(folder / name)


def _answers(seen: Observation) -> Iterable[str]:
    return _counted(f"vCPU {one.vcpu}: {one.answer}" for one in seen.answers) or ["KVM_SET_CPUID was not called"]


def _host_log(seen: Observation) -> Iterable[str]:
    return _counted(f"<{record.level}> {record.text}" for record in seen.host_log) or ["nothing"]


def _guest(seen: Observation) -> Iterable[str]:
    if not seen.fate.alive:
        seconds = "" if seen.fate.seconds is None else f" after {seen.fate.seconds:.1f} s"
        code = "" if seen.fate.exit_code is None else f"; QEMU's exit code {seen.fate.exit_code}"
        return [f"died{seconds}: {seen.fate.how}{code}"]
    if seen.guest is None:
        return ["not looked at"]
    return ["stable"] if seen.guest.stable else seen.guest.troubles


_PARTS: Sequence[tuple[str, Callable[[Path], Iterable[str]]]] = (
    ("the lab's failure", _file("lab-failure.txt")),
    ("KVM's answers", _observed(_answers)),
    ("host log since the test began", _observed(_host_log)),
    ("guest", _observed(_guest)),
    ("KVM's CPUID afterwards", _observed(lambda seen: [_MODEL[seen.model]])),
    ("CPUID before and after", _file("models-diff.txt")),
    ("seen besides", _observed(lambda seen: seen.notes)),
    ("readings", _file("readings.txt")),
    ("QEMU said", _file("qemu-stderr.txt")),
    ("rerun", _file("rerun.txt")),
)


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(READ_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []


def _counted(lines: Iterable[str]) -> list[str]:
    """Each different line once, with how often it came."""
    return [line if count == 1 else f"{line}  (x {count})" for line, count in Counter(lines).items()]


def _cut(lines: Iterable[str], width: int = WIDTH) -> str:
    kept = [line if len(line) <= width else f"{line[:width]}…" for line in lines if line.strip()]
    more = [f"… and {len(kept) - LINES} lines more"] if len(kept) > LINES else []
    return "\n".join(kept[:LINES] + more)
