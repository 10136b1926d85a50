"""The kernel log as /dev/kmsg gives it: records with sequence numbers, read from a mark, never cleared.

Record format: Documentation/ABI/testing/dev-kmsg.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cpuidlab.base.errors import LabError

KERNEL_FACILITY = 0

_RECORD = re.compile(r"(\d+),(\d+),(\d+),[^;]*;(.*)")
_ESCAPES = re.compile(r"(?:\\x[0-9a-f]{2})+")
# lib/ratelimit.c, said when a limited line may be logged again
_SUPPRESSED = re.compile(r"\w+: \d+ callbacks suppressed")

# What a healthy kernel does not log, and how to call it. The first pattern that fits names the line.
_TROUBLES = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("panic", r"^Kernel panic"),
        ("restart", r"^Linux version \d"),
        ("lockup", r"soft lockup|hard LOCKUP|workqueue lockup"),
        ("stall", r"\bINFO: rcu_\w+ .*\bstalls? on|\brcu_\w+ kthread starved"),
        ("hung task", r"blocked for more than \d+ seconds"),
        ("oops", r"\[#\d+\]|^Oops\b|[Uu]nable to handle kernel|[Uu]nable to handle page"),
        ("BUG", r"\bBUG: |^kernel BUG at|list_(add|del) corruption|^UBSAN: "),
        ("WARNING", r"^WARNING: |\[ cut here \]|^unchecked MSR access error"),
        ("hardware error", r"\[Hardware Error\]"),
        ("crashed program", r"\]: segfault at |^traps: .* trap "),
        ("soft reset", r"\b[Ss]oft[- ]reset\b"),
        ("I/O error", r"I/O error, dev |\bSQUASHFS error\b|^Buffer I/O error"),
        ("out of memory", r"^Out of memory: |invoked oom-killer"),
    )
)


@dataclass(frozen=True)
class Record:
    """One log record; `level` 0 (emergency) to 7 (debug), `seconds` since boot."""

    level: int
    facility: int
    sequence: int
    seconds: float
    text: str


def parse(log: str) -> tuple[Record, ...]:
    """Read the text of /dev/kmsg; dictionary lines (they begin with a space) are left out.

    Raises LabError for a line that is no record: then the log was garbled on its way.
    """
    return tuple(_record(line) for line in log.split("\n") if line and not line.startswith(" "))


def mark(records: Sequence[Record]) -> int:
    """The place in the log after its last record; -1 for an empty log."""
    return records[-1].sequence if records else -1


def since(records: Sequence[Record], mark: int) -> tuple[Record, ...]:
    """What the kernel itself logged after `mark`; lines that programs wrote into the log are left out.

    Raises LabError where records are missing: silence cannot be claimed from a log with holes.
    """
    if mark >= 0 and (not records or records[-1].sequence < mark):
        raise LabError(f"the kernel log ends before its mark {mark}: the machine restarted, or the log was not read")
    new = [record for record in records if record.sequence > mark]
    for expected, record in enumerate(new, start=mark + 1):
        if record.sequence != expected:
            raise LabError(
                f"the kernel log goes from record {expected - 1} to {record.sequence}: with lines lost "
                "silence cannot be claimed; run it again"
            )
    return tuple(record for record in new if record.facility == KERNEL_FACILITY)


def to_text(records: Iterable[Record]) -> str:
    """The records for a reader, one a line: level, seconds since boot, text."""
    return "".join(f"<{record.level}> [{record.seconds:.6f}] {record.text}\n" for record in records)


def matching(records: Iterable[Record], text: str, level: int) -> tuple[Record, ...]:
    """The records that say exactly `text` at exactly `level`."""
    return tuple(record for record in records if (record.text, record.level) == (text, level))


def is_suppression_note(record: Record) -> bool:
    """Whether the record only says that the rate limit held lines back."""
    return _SUPPRESSED.fullmatch(record.text) is not None


def troubles(records: Iterable[Record]) -> tuple[str, ...]:
    """What a healthy kernel would not have logged: one `kind: text` for each such line."""
    found = []
    for record in records:
        kind = next((kind for kind, pattern in _TROUBLES if pattern.search(record.text)), None)
        if kind is not None:
            found.append(f"{kind}: {record.text}")
    return tuple(found)


def _record(line: str) -> Record:
    found = _RECORD.fullmatch(line)
    if found is None:
        raise LabError(f"the kernel log is garbled; this is no record: {line[:120]!r}")
    priority, sequence, microseconds = (int(number) for number in found.groups()[:3])
    # The kernel writes \xNN for control characters, the backslash and every byte above 126.
    text = _ESCAPES.sub(_unescape, found[4])
    return Record(priority & 7, priority >> 3, sequence, microseconds / 1e6, text)


def _unescape(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("\\x", "")).decode(errors="replace")
