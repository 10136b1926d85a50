"""The kernel log as read from /dev/kmsg: records with sequence numbers. A mark says where to begin; nothing is cleared.

Record format: Documentation/ABI/testing/dev-kmsg.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cpuidlab.base.errors import LabError

KERNEL_FACILITY = 0
UNSTABLE_TSC = "Marking TSC unstable"  # mark_tsc_unstable in arch/x86/kernel/tsc.c

_RECORD = re.compile(r"(\d+),(\d+),(\d+),[^;]*;(.*)")
_ESCAPES = re.compile(r"(?:\\x[0-9a-f]{2})+")
# lib/ratelimit.c logs this when a limited line may be logged again
_SUPPRESSED = re.compile(r"\w+: \d+ callbacks suppressed")

# What a healthy kernel does not log, and the name of that trouble. The first pattern that matches names the line.
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
        # virt/kvm/kvm_main.c, arch/x86/kvm: a CPU of the guest differs from the others, so that KVM cannot use it
        (
            "broken CPU",
            r"enabling virtualization on CPU\d+ failed|Inconsistent VMCS config|CPU \d+ feature inconsistency",
        ),
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
    """Read the text of /dev/kmsg. Dictionary lines, which begin with a space, are left out.

    Raises LabError for a line that is no record: the log was damaged on its way.
    """
    return tuple(_record(line) for line in log.split("\n") if line and not line.startswith(" "))


def mark(records: Sequence[Record]) -> int:
    """Return the sequence number of the last record, -1 for an empty log."""
    return records[-1].sequence if records else -1


def since(records: Sequence[Record], mark: int) -> tuple[Record, ...]:
    """Return what the kernel itself logged after `mark`, without the lines that programs wrote into the log.

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
    """Return the records as text, one a line: level, seconds since boot, text."""
    return "".join(f"<{record.level}> [{record.seconds:.6f}] {record.text}\n" for record in records)


def matching(records: Iterable[Record], text: str, level: int) -> tuple[Record, ...]:
    """Return the records with exactly this text and this level."""
    return tuple(record for record in records if (record.text, record.level) == (text, level))


def is_suppression_note(record: Record) -> bool:
    """Return whether the record says no more than that the rate limit suppressed lines."""
    return _SUPPRESSED.fullmatch(record.text) is not None


def without_earlier_notes(records: Sequence[Record]) -> tuple[Record, ...]:
    """Leave out the notes of "callbacks suppressed" that tell of lines from before the first record.

    ___ratelimit() prints the note before the next line that it lets pass. Where that line is the first of its text, all
    that was suppressed of it is older.
    """
    known = set[str]()
    kept = list[Record]()
    for record in records:
        if record.text not in known and kept and is_suppression_note(kept[-1]):
            kept.pop()
        known.add(record.text)
        kept.append(record)
    return tuple(kept)


def troubles(records: Iterable[Record]) -> tuple[str, ...]:
    """Return `kind: text` for each line that a healthy kernel does not log."""
    lines = []
    for record in records:
        kind = next((kind for kind, pattern in _TROUBLES if pattern.search(record.text)), None)
        if kind is not None:
            lines.append(f"{kind}: {record.text}")
    return tuple(lines)


def _record(line: str) -> Record:
    match = _RECORD.fullmatch(line)
    if match is None:
        raise LabError(f"the kernel log is garbled; this is no record: {line[:120]!r}")
    priority, sequence, microseconds = (int(number) for number in match.groups()[:3])
    # The kernel writes \xNN for control characters, the backslash and every byte above 126.
    text = _ESCAPES.sub(_unescape, match[4])
    return Record(priority & 7, priority >> 3, sequence, microseconds / 1e6, text)


def _unescape(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("\\x", "")).decode(errors="replace")
