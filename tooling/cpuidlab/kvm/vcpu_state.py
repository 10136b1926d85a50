"""In what the state of the vCPUs differs after a call: the hook's report, read. tooling/hook/state.h has its lines."""

import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cpuidlab.base.errors import LabError
from cpuidlab.kvm.state_fields import WORD_BYTES, fields_at, msr_name, table

_KINDS = ("w ", "d ", "u ", "n ")  # how the lines of a report begin
_UNREADABLE = "-"


@dataclass(frozen=True)
class Difference:
    """One field of a vCPU's state before and after a call.

    `part` is what it was read with, as in tooling/hook/state.c, `field` a name, for an MSR its index. The values are
    hexadecimal, or `-` for an MSR that KVM does not tell. Of a part that can be read no more `field` is empty, and
    `new` the name of the errno.
    """

    vcpu: int
    part: str
    field: str
    old: str
    new: str

    @property
    def name(self) -> str:
        """The field's name for people, such as `dr7` or `MSR 0x174 IA32_SYSENTER_CS`."""
        prefixes = {"lapic": "LAPIC ", "stat": "statistic ", "nested": "nested state "}
        return msr_name(self.field) if self.part == "msr" else prefixes.get(self.part, "") + (self.field or self.part)

    def __str__(self) -> str:
        return f"{self.name} {self.old} -> {self.new}"


def parted(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the lines of a report on the vCPUs' state from the others."""
    report = [line for line in lines if line.startswith(_KINDS)]
    return report, [line for line in lines if not line.startswith(_KINDS)]


def parse(lines: Iterable[str], vcpu: int) -> tuple[Difference, ...]:
    """Read the report on a call on `vcpu`. Its own differences come first.

    Raises LabError where the report is garbled, or a vCPU was not read, or not all of it.
    """
    report = [line.split() for line in lines]
    try:
        _check(report, vcpu)
        return tuple(difference for words in report for difference in _differences(words))
    except (ValueError, IndexError) as error:
        raise LabError(f"the hook broke its protocol in a report on the vCPUs' state: {error}") from error


def _check(report: Sequence[Sequence[str]], vcpu: int) -> None:
    """Raise LabError unless all was read of all vCPUs."""
    read = {words[1] for words in report if words[0] == "w"}
    for words in report:
        match words:
            case ["n", number]:
                raise LabError(f"the state of vCPU {number} was not read: it runs, or another client uses it")
            case ["w", number, parts, *counts]:
                failed = {line[2] for line in report if line[0] == "u" and line[1] == number}
                _check_whole(number, {*parts.split("+"), *failed}, [int(count) for count in counts])
    if str(vcpu) not in read:
        raise LabError(f"the state of vCPU {vcpu} was not read")


def _check_whole(vcpu: str, parts: set[str], counts: Sequence[int]) -> None:
    missing = [part for part in table()["required"] if parts.isdisjoint(part.split("|"))]
    if missing:
        raise LabError(f"the state of vCPU {vcpu} was read without {', '.join(missing)}")
    listed, twice, read, failed = counts
    if listed != twice + read + failed or not read:
        raise LabError(f"of {listed - twice} MSRs of vCPU {vcpu} the hook has read {read}, and {failed} cannot be read")


def _differences(words: Sequence[str]) -> Iterator[Difference]:
    if words[0] == "u":
        _, vcpu, part, before, after = words
        yield from _unreadable(int(vcpu), part, int(before), int(after))
    elif words[0] == "d":
        _, vcpu, part, at, old, new = words
        yield from _named(int(vcpu), part, at, old, new)


def _unreadable(vcpu: int, part: str, before: int, after: int) -> Iterator[Difference]:
    """A part that became unreadable is a difference; KVM answers EIO to every call on a VM that it has given up."""
    if not before:
        yield Difference(vcpu, part, "", "readable", errno.errorcode.get(after, str(after)))
    elif before != errno.EIO:
        raise LabError(f"{part} of vCPU {vcpu} cannot be read: {errno.errorcode.get(before, before)}")


def _named(vcpu: int, part: str, at: str, old: str, new: str) -> Iterator[Difference]:
    if part in ("msr", "stat"):
        yield Difference(vcpu, part, f"0x{int(at, 16):x}" if part == "msr" else at, _value(old), _value(new))
        return
    for low, size, name in fields_at(part, int(at)):
        before, after = (int(word, 16) >> 8 * low & (1 << 8 * size) - 1 for word in (old, new))
        if before != after:
            yield Difference(vcpu, part, name, hex(before), hex(after))


def between(vcpu: int, part: str, before: bytes, after: bytes) -> tuple[Difference, ...]:
    """Return in what two readings of a part of a vCPU differ; both are whole words."""
    places = range(0, len(before), WORD_BYTES)
    return tuple(one for at in places for one in _named(vcpu, part, str(at), _word(before, at), _word(after, at)))


def _word(data: bytes, at: int) -> str:
    """The little-endian word at an offset, as the hook writes one."""
    return data[at : at + WORD_BYTES][::-1].hex()


def _value(word: str) -> str:
    return word if word == _UNREADABLE else hex(int(word, 16))


def state_text(lines: Iterable[str]) -> str:
    """Name the words of a whole state, as the hook tells it, for people. Raises LabError where that is garbled."""
    text = []
    for line in lines:
        match = re.fullmatch(r"s (\w+) (\S+) ([0-9a-f]+|-)", line)
        if match is None:
            raise LabError(f"the hook broke its protocol in a vCPU's state: {line!r}")
        part, at, value = match.groups()
        text += [f"{one.name} {one.new}\n" for one in _named(0, part, at, "0", value)]
    return "".join(text)
