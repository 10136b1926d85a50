"""The client of the preloaded hook: its line protocol over any byte stream, and its log; the C file tells the forms."""

import errno
import re
import time
from dataclasses import dataclass
from typing import Literal, Protocol

from cpuidlab.base.errors import GivenUpError, LabError
from cpuidlab.kvm.cpuid import Entry, Model

Call = Literal[1, 2]  # KVM_SET_CPUID, KVM_SET_CPUID2
MAX_LIVE_SECONDS = 60
_GRACE_SECONDS = 5.0  # the hook's own time-out of a live request must come first: it withdraws the request


class Stream(Protocol):
    """What carries the protocol."""

    def send(self, data: bytes) -> None:
        """Send all of `data`."""

    def recv_line(self, deadline: float) -> str:
        """The next line without its end. Raises LabError on the end of the stream or at `deadline` (time.monotonic)."""


@dataclass(frozen=True)
class Vcpu:
    """A vCPU as the hook knows it: `nent` of QEMU's last accepted set, `runs` calls of KVM_RUN."""

    id: int
    fd: int
    nent: int
    has_run: bool
    runs: int


@dataclass(frozen=True)
class Answer:
    """What KVM answered to a set: the ioctl's return value and errno (0 where it did not fail)."""

    ret: int
    errno: int

    @property
    def word(self) -> str:
        """`accepted`, or the errno's name such as `EINVAL`."""
        return "accepted" if self.ret == 0 else errno.errorcode.get(self.errno, f"errno {self.errno}")


@dataclass(frozen=True)
class HookEvent:
    """One line of the hook's log; `seconds` is the host's CLOCK_MONOTONIC, None is what the line does not say."""

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

    @property
    def word(self) -> str:
        """What a set was answered, as `Answer.word` has it."""
        return Answer(self.ret or 0, self.errno or 0).word


class Hook:
    """One connection. Every method takes the seconds it may last and raises LabError with the raw line where the hook
    says `err` or breaks the protocol. Without a whole answer the connection is not used again: the rest may come late.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._usable = True

    def list(self, *, seconds: float = 10) -> tuple[Vcpu, ...]:
        """All vCPUs in the order of their making; works in any state."""
        lines, last = self._ask("list\n", seconds)
        vcpus = tuple(self._vcpu(line) for line in lines)
        self._match(r"ok vcpus=(\d+)", last, len(vcpus))
        return vcpus

    def get(self, vcpu: int, *, live: bool = False, seconds: float = 10) -> Model:
        """The model that KVM_GET_CPUID2 tells. The VM must be stopped, or `live` asks the vCPU's own thread."""
        lines, last = self._ask(f"{_prefix(live, seconds)}get {vcpu}\n", seconds)
        self._match(r"ok nent=\d+ own=\d+", last)
        return tuple(self._entry(line) for line in lines)

    def set(
        self,
        vcpu: int,
        model: Model,
        call: Call = 2,
        nent: int | None = None,
        *,
        live: bool = False,
        seconds: float = 10,
    ) -> Answer:
        """Set a model. `nent` is the count to tell KVM where it is not the model's; zero entries make up the rest."""
        count = len(model) if nent is None else nent
        entries = "".join(f"e {' '.join(f'{word:x}' for word in _words(entry, call))}\n" for entry in model)
        return self._answer(f"set {vcpu} {call} {count} {len(model)}\n{entries}", live, seconds)

    def set_bad_pointer(
        self, vcpu: int, call: Call = 2, nent: int | None = None, *, live: bool = False, seconds: float = 10
    ) -> Answer:
        """The same call with a pointer that is not mapped; with `nent` that count can be read, the entries cannot."""
        count = "" if nent is None else f" {nent}"
        return self._answer(f"badptr {vcpu} {call}{count}\n", live, seconds)

    def load_l2(self, vcpu: int, *, seconds: float = 10) -> None:
        """Let a vCPU that has not run be in the midst of a guest of its own. LabError where KVM does not take it."""
        answer = self._answer(f"l2 {vcpu}\n", False, seconds)
        if answer.ret:
            raise LabError(f"KVM takes no nested state for vCPU {vcpu}: {answer.word}")

    def sweep(self, vcpu: int, *, seconds: float = 60) -> tuple[str, ...]:
        """Try each bit and each entry of the model, the VM being stopped; the whole answer, for `sweep.parse`."""
        lines, last = self._ask(f"sweep {vcpu}\n", seconds)
        return (*lines, last)

    def _answer(self, request: str, live: bool, seconds: float) -> Answer:
        lines, last = self._ask(_prefix(live, seconds) + request, seconds)
        if lines:
            raise self._broken(lines[0])
        match = self._match(r"ok ret=(-?\d+) errno=(\d+)", last)
        return Answer(int(match[1]), int(match[2]))

    def _ask(self, request: str, seconds: float) -> tuple[tuple[str, ...], str]:
        """Send a request; return the lines of the answer and the `ok` line."""
        if not self._usable:
            raise LabError("this connection to the hook has failed before; open a new one")
        self._usable = False
        deadline = time.monotonic() + seconds + _GRACE_SECONDS
        self._stream.send(request.encode())
        lines: list[str] = []
        while not (line := self._stream.recv_line(deadline)).startswith(("ok ", "err ")):
            if not line:
                raise self._broken(line)
            lines.append(line)
        self._usable = True
        if line.startswith("err "):
            kind = GivenUpError if line == f"err {errno.EIO} KVM_GET_CPUID2 failed" else LabError
            raise kind(f"the hook refused '{request.splitlines()[0]}': {line}")
        return tuple(lines), line

    def _vcpu(self, line: str) -> Vcpu:
        match = self._match(r"vcpu (\d+) fd=(\d+) nent=(\d+) has_run=([01]) runs=(\d+)", line)
        number, fd, nent, has_run, runs = (int(word) for word in match.groups())
        return Vcpu(number, fd, nent, bool(has_run), runs)

    def _entry(self, line: str) -> Entry:
        match = self._match("e" + " ([0-9a-f]{1,8})" * 7, line)
        function, index, flags, eax, ebx, ecx, edx = (int(word, 16) for word in match.groups())
        return Entry(function, index, flags, eax, ebx, ecx, edx)

    def _match(self, form: str, line: str, count: int | None = None) -> re.Match[str]:
        match = re.fullmatch(form, line)
        if match is None or (count is not None and int(match[1]) != count):
            raise self._broken(line)
        return match

    def _broken(self, line: str) -> LabError:
        self._usable = False
        return LabError(f"the hook broke its protocol; it said {line!r}")


def _prefix(live: bool, seconds: float) -> str:
    return f"live {int(min(seconds, MAX_LIVE_SECONDS) * 1000)} " if live else ""


def _words(entry: Entry, call: Call) -> tuple[int, ...]:
    """The entry as the call lays it out: struct kvm_cpuid_entry2, or struct kvm_cpuid_entry without index and flags."""
    registers = (entry.eax, entry.ebx, entry.ecx, entry.edx)
    if call == 2:
        return (entry.function, entry.index, entry.flags, *registers, *entry.padding)
    return (entry.function, *registers, entry.padding[0])


_EVENT = re.compile(r"(\d+\.\d{9}) ([a-z_0-9]+)((?: [a-z]+=[^ =]+)+)")


def parse_log(text: str) -> tuple[HookEvent, ...]:
    """Read the hook's log; a last line without its end was cut by a crash and is left out. LabError on garbage."""
    whole, _, _ = text.rpartition("\n")
    return tuple(_event(line) for line in whole.splitlines())


def _event(line: str) -> HookEvent:
    match = _EVENT.fullmatch(line)
    if match is None:
        raise LabError(f"the hook's log has a line that it never writes: {line!r}")
    said = dict(pair.split("=") for pair in match[3].split())

    def number(name: str) -> int | None:
        return int(said[name]) if name in said else None

    try:
        return HookEvent(
            float(match[1]), match[2], number("vcpu"), said.get("by"), number("fd"),
            number("nent"), number("ret"), number("errno"), said.get("what"),
            number("accepted"), number("refused"), number("restored"),
        )  # fmt: skip
    except ValueError:
        raise LabError(f"the hook's log has a line that it never writes: {line!r}") from None
