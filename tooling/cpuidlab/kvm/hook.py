"""The client of the preloaded hook, over any byte stream. tooling/hook/requests.c describes the protocol."""

import errno
import re
import time
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from cpuidlab.base.errors import GivenUpError, LabError
from cpuidlab.kvm import hook_requests, vcpu_state
from cpuidlab.kvm.cpuid import Entry, Model
from cpuidlab.kvm.vcpu_state import Difference

Call = Literal[1, 2]  # KVM_SET_CPUID, KVM_SET_CPUID2
State = Literal["before", "after"]
_MP_RUNNABLE = 0  # KVM_MP_STATE_RUNNABLE, linux/kvm.h
_GRACE_SECONDS = 5.0  # the hook withdraws a live request that is late, and its answer must come before we give up


class Stream(Protocol):
    """What carries the protocol."""

    def send(self, data: bytes) -> None:
        """Send all of `data`."""

    def recv_line(self, deadline: float) -> str:
        """Return the next line without its end.

        Raises LabError where the stream ends, or at `deadline` (of time.monotonic).
        """


@dataclass(frozen=True)
class Vcpu:
    """A vCPU as the hook knows it: `nent` of QEMU's last accepted set, `runs` calls of KVM_RUN."""

    id: int
    fd: int
    nent: int
    has_run: bool
    runs: int


@dataclass(frozen=True)
class Where:
    """Where a vCPU is: its instruction pointer, its privilege level, and whether it runs code, or rests or waits."""

    rip: int
    cpl: int
    runs: bool


@dataclass(frozen=True)
class Answer:
    """How KVM answered a set: the ioctl's return value and its errno (0 where the ioctl did not fail).

    `differences` is what is no more as before in the state of the called vCPU, and of the others where the VM is
    stopped.
    """

    ret: int
    errno: int
    differences: tuple[Difference, ...] = field(default=(), compare=False)

    @property
    def word(self) -> str:
        """`accepted`, or the name of the errno, such as `EINVAL`."""
        return "accepted" if self.ret == 0 else errno.errorcode.get(self.errno, f"errno {self.errno}")


@dataclass(frozen=True)
class Row:
    """How KVM answered the same call many times in a row: `times` calls by `answer`, and how long one took, in seconds.

    The row ends with the first call that is answered otherwise: `other`. The answers' differences are those of the
    whole row.
    """

    answer: Answer
    times: int
    other: Answer | None
    median: float
    tenth: float
    ninetieth: float
    longest: float


class Hook:
    """One connection to the hook.

    Every method takes the seconds that it may last. It raises LabError, with the raw line, where the hook answers `err`
    or breaks the protocol. A connection without a whole answer is not used again, because the rest may come late.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._usable = True

    def list(self, *, seconds: float = 10) -> tuple[Vcpu, ...]:
        """Return all vCPUs in the order in which QEMU made them. The VM may run."""
        lines, last = self._ask("list\n", seconds)
        vcpus = tuple(self._vcpu(line) for line in lines)
        self._match(r"ok vcpus=(\d+)", last, len(vcpus))
        return vcpus

    def get(self, vcpu: int, *, live: bool = False, seconds: float = 10) -> Model:
        """Return the model that KVM_GET_CPUID2 reads. The VM must be stopped; with `live` it must run.

        Raises GivenUpError where KVM answers EIO: it has given up the VM.
        """
        lines, last = self._ask(f"{hook_requests.prefix(live, seconds)}get {vcpu}\n", seconds)
        self._match(r"ok nent=\d+ own=\d+", last)
        return tuple(self._entry(line) for line in lines)

    def where(self, vcpu: int, *, live: bool = False, seconds: float = 10) -> Where:
        """Say where a vCPU is, and disturb it no more than a signal does. With `live` the VM must run, else be stopped.

        Raises LabError where the vCPU's thread does not come to KVM_RUN in time.
        """
        lines, last = self._ask(f"{hook_requests.prefix(live, seconds)}where {vcpu}\n", seconds)
        if lines:
            raise self._broken(lines[0])
        match = self._match(r"ok rip=([0-9a-f]+) cpl=([0-3]) mp=(\d+)", last)
        return Where(int(match[1], 16), int(match[2]), int(match[3]) == _MP_RUNNABLE)

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
        """Set a model. With `nent` that is the entry count, and zero entries follow those of the model."""
        return self._watched(hook_requests.setting(vcpu, model, call, nent), vcpu, live, seconds)

    def set_bad_pointer(
        self, vcpu: int, call: Call = 2, nent: int | None = None, *, live: bool = False, seconds: float = 10
    ) -> Answer:
        """Set with a pointer that is not mapped. With `nent` the count is mapped, the entries are not."""
        return self._watched(hook_requests.setting(vcpu, None, call, nent), vcpu, live, seconds)

    def set_row(
        self,
        calls: int,
        vcpu: int,
        model: Model | None,
        call: Call = 2,
        nent: int | None = None,
        *,
        live: bool = False,
        seconds: float = 10,
    ) -> Row:
        """Make the call of `set`, or of `set_bad_pointer` where there is no model, many times in a row.

        The row ends after `calls` calls or, with the call that is being made, after `seconds`.
        """
        one = hook_requests.setting(vcpu, model, call, nent)
        many = f"{hook_requests.prefix(live, seconds)}many {calls} {int(seconds * 1000)} {one}"
        lines, last = self._ask(many, seconds + _GRACE_SECONDS)
        report, others = vcpu_state.parted(lines)
        answers = [self._match(r"a (-?\d+) (\d+) (\d+)", line) for line in others]
        ns = self._match(r"ok median=(\d+) tenth=(\d+) ninetieth=(\d+) max=(\d+)", last)
        if len(answers) not in (1, 2):
            raise self._broken(last)
        differences = vcpu_state.parse(report, vcpu)
        first, *other = (Answer(int(match[1]), int(match[2]), differences) for match in answers)
        return Row(first, int(answers[0][3]), other[0] if other else None, *(int(one) / 1e9 for one in ns.groups()))

    def load_l2(self, vcpu: int, *, seconds: float = 10) -> None:
        """Load nested state into a vCPU that has not run: it runs a guest of its own then.

        Raises LabError where KVM refuses the state.
        """
        lines, last = self._ask(f"l2 {vcpu}\n", seconds)
        if lines:
            raise self._broken(lines[0])
        answer = self._answer(last)
        if answer.ret:
            raise LabError(f"KVM takes no nested state for vCPU {vcpu}: {answer.word}")

    def sweep(self, vcpu: int, *, seconds: float = 60) -> tuple[tuple[str, ...], tuple[Difference, ...]]:
        """Try each bit and each entry of the model while the VM is stopped.

        Return all lines, for `sweep.parse`, and what is no more as before in the state of the vCPUs.
        """
        lines, last = self._ask(f"sweep {vcpu}\n", seconds)
        report, others = vcpu_state.parted(lines)
        return (*others, last), vcpu_state.parse(report, vcpu)

    def state(self, vcpu: int, which: State, *, seconds: float = 10) -> str:
        """Return the vCPU's state before or after the last set on it that was watched, as text for people."""
        lines, last = self._ask(f"state {vcpu} {1 if which == 'before' else 2}\n", seconds)
        self._match("ok state=kept", last)
        return vcpu_state.state_text(lines)

    def _watched(self, request: str, vcpu: int, live: bool, seconds: float) -> Answer:
        """Ask for a set, whose answer tells what became of the state of the vCPUs."""
        lines, last = self._ask(hook_requests.prefix(live, seconds) + request, seconds)
        report, others = vcpu_state.parted(lines)
        if others:
            raise self._broken(others[0])
        return replace(self._answer(last), differences=vcpu_state.parse(report, vcpu))

    def _answer(self, line: str) -> Answer:
        match = self._match(r"ok ret=(-?\d+) errno=(\d+)", line)
        return Answer(int(match[1]), int(match[2]))

    def _ask(self, request: str, seconds: float) -> tuple[tuple[str, ...], str]:
        """Send a request. Return the lines of the answer, and its `ok` line."""
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
        """Match a line. With `count` that is what its first number must be."""
        match = re.fullmatch(form, line)
        if match is None or (count is not None and int(match[1]) != count):
            raise self._broken(line)
        return match

    def _broken(self, line: str) -> LabError:
        self._usable = False
        return LabError(f"the hook broke its protocol; it said {line!r}")
