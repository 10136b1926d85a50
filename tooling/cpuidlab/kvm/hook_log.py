"""The log of the preloaded hook; tooling/hook/cpuidhook.c has the form of each line."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cpuidlab.base.errors import LabError
from cpuidlab.kvm import vcpu_state
from cpuidlab.kvm.hook_answers import Answer

_EVENT = re.compile(r"(\d+\.\d{9}) ([a-z_0-9]+)((?: [a-z]+=[^ =]+)+)")
_TEXTS = ("by", "what")  # all other values are numbers


@dataclass(frozen=True)
class HookEvent:
    """One line of the log; `seconds` is the host's CLOCK_MONOTONIC. None stands for what the line does not have.

    `times` is how many calls in a row were answered so.
    """

    seconds: float
    kind: str
    vcpu: int | None = None
    by: str | None = None
    fd: int | None = None
    nent: int | None = None
    ret: int | None = None
    errno: int | None = None
    what: str | None = None
    accepted: int | None = None
    refused: int | None = None
    restored: int | None = None
    times: int = 1

    @property
    def word(self) -> str:
        """How KVM answered this set, in the words of `Answer.word`."""
        return Answer(self.ret or 0, self.errno or 0).word


def parse_log(text: str) -> tuple[HookEvent, ...]:
    """Read the log. A last line without its end was cut by a crash and is left out.

    Raises LabError where a line is not of the hook's form.
    """
    whole, _, _ = text.rpartition("\n")
    return tuple(_event(line) for line in whole.splitlines())


def sets_by_qemu(events: Iterable[HookEvent]) -> Iterator[tuple[int, Answer]]:
    """Yield the vCPU of each set that QEMU made, and KVM's answer. A report on the vCPU's state stands before its set.

    Raises LabError where such a report is garbled or not whole.
    """
    report: list[str] = []
    for event in events:
        if event.kind == "state":
            report.append((event.what or "").replace(",", " "))
        elif event.by == "qemu":
            vcpu = event.vcpu or 0
            yield vcpu, Answer(event.ret or 0, event.errno or 0, vcpu_state.parse(report, vcpu) if report else ())
            report = []


def _event(line: str) -> HookEvent:
    match = _EVENT.fullmatch(line)
    if match is None:
        raise _garbage(line)
    pairs = dict(pair.split("=") for pair in match[3].split())
    try:
        values: dict[str, Any] = {name: word if name in _TEXTS else int(word) for name, word in pairs.items()}
        return HookEvent(float(match[1]), match[2], **values)
    except (ValueError, TypeError):  # TypeError: no event has such a name
        raise _garbage(line) from None


def _garbage(line: str) -> LabError:
    return LabError(f"the hook's log has a line that it never writes: {line!r}")
