"""The client of the preloaded hook, over any byte stream. tooling/hook/requests.c describes the protocol."""

from dataclasses import replace

from cpuidlab.base.errors import LabError
from cpuidlab.kvm import hook_requests, vcpu_state
from cpuidlab.kvm.cpuid import Entry, Model
from cpuidlab.kvm.hook_answers import Answer, Call, Row, State, Vcpu, Where
from cpuidlab.kvm.hook_connection import GRACE_SECONDS, Connection, Stream
from cpuidlab.kvm.vcpu_state import Difference

_MP_RUNNABLE = 0  # KVM_MP_STATE_RUNNABLE, linux/kvm.h


class Hook:
    """The requests that the hook knows, over one connection.

    Every method takes the seconds that it may last. It raises LabError, with the raw line, where the hook answers `err`
    or breaks the protocol.
    """

    def __init__(self, stream: Stream) -> None:
        """Take the stream that is connected to the hook's socket."""
        self._connection = Connection(stream)

    def list(self, *, seconds: float = 10) -> tuple[Vcpu, ...]:
        """Return all vCPUs in the order in which QEMU made them. The VM may run."""
        lines, last = self._connection.ask("list\n", seconds)
        vcpus = tuple(self._vcpu(line) for line in lines)
        self._connection.match(r"ok vcpus=(\d+)", last, len(vcpus))
        return vcpus

    def get(self, vcpu: int, *, live: bool = False, seconds: float = 10) -> Model:
        """Return the model that KVM_GET_CPUID2 reads. The VM must be stopped; with `live` it must run.

        Raises GivenUpError where KVM answers EIO: it has given up the VM.
        """
        lines, last = self._connection.ask(f"{hook_requests.prefix(live, seconds)}get {vcpu}\n", seconds)
        self._connection.match(r"ok nent=\d+ own=\d+", last)
        return tuple(self._entry(line) for line in lines)

    def where(self, vcpu: int, *, live: bool = False, seconds: float = 10) -> Where:
        """Say where a vCPU is, and disturb it no more than a signal does. With `live` the VM must run, else be stopped.

        Raises LabError where the vCPU's thread does not come to KVM_RUN in time.
        """
        lines, last = self._connection.ask(f"{hook_requests.prefix(live, seconds)}where {vcpu}\n", seconds)
        if lines:
            raise self._connection.broken(lines[0])
        match = self._connection.match(r"ok rip=([0-9a-f]+) cpl=([0-3]) mp=(\d+)", last)
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
        lines, last = self._connection.ask(many, seconds + GRACE_SECONDS)
        report, others = vcpu_state.parted(lines)
        answers = [self._connection.match(r"a (-?\d+) (\d+) (\d+)", line) for line in others]
        ns = self._connection.match(r"ok median=(\d+) tenth=(\d+) ninetieth=(\d+) max=(\d+)", last)
        if len(answers) not in (1, 2):
            raise self._connection.broken(last)
        differences = vcpu_state.parse(report, vcpu)
        first, *other = (Answer(int(match[1]), int(match[2]), differences) for match in answers)
        return Row(first, int(answers[0][3]), other[0] if other else None, *(int(one) / 1e9 for one in ns.groups()))

    def load_l2(self, vcpu: int, *, seconds: float = 10) -> None:
        """Load nested state into a vCPU that has not run: it runs a guest of its own then.

        Raises LabError where KVM refuses the state.
        """
        lines, last = self._connection.ask(f"l2 {vcpu}\n", seconds)
        if lines:
            raise self._connection.broken(lines[0])
        answer = self._answer(last)
        if answer.ret:
            raise LabError(f"KVM takes no nested state for vCPU {vcpu}: {answer.word}")

    def sweep(self, vcpu: int, *, seconds: float = 60) -> tuple[tuple[str, ...], tuple[Difference, ...]]:
        """Try each bit and each entry of the model while the VM is stopped.

        Return all lines, for `sweep.parse`, and what is no more as before in the state of the vCPUs.
        """
        lines, last = self._connection.ask(f"sweep {vcpu}\n", seconds)
        report, others = vcpu_state.parted(lines)
        return (*others, last), vcpu_state.parse(report, vcpu)

    def state(self, vcpu: int, which: State, *, seconds: float = 10) -> str:
        """Return the vCPU's state before or after the last set on it that was watched, as text for people."""
        lines, last = self._connection.ask(f"state {vcpu} {1 if which == 'before' else 2}\n", seconds)
        self._connection.match("ok state=kept", last)
        return vcpu_state.state_text(lines)

    def _watched(self, request: str, vcpu: int, live: bool, seconds: float) -> Answer:
        """Ask for a set, whose answer tells what became of the state of the vCPUs."""
        lines, last = self._connection.ask(hook_requests.prefix(live, seconds) + request, seconds)
        report, others = vcpu_state.parted(lines)
        if others:
            raise self._connection.broken(others[0])
        return replace(self._answer(last), differences=vcpu_state.parse(report, vcpu))

    def _answer(self, line: str) -> Answer:
        match = self._connection.match(r"ok ret=(-?\d+) errno=(\d+)", line)
        return Answer(int(match[1]), int(match[2]))

    def _vcpu(self, line: str) -> Vcpu:
        match = self._connection.match(r"vcpu (\d+) fd=(\d+) nent=(\d+) has_run=([01]) runs=(\d+)", line)
        number, fd, nent, has_run, runs = (int(word) for word in match.groups())
        return Vcpu(number, fd, nent, bool(has_run), runs)

    def _entry(self, line: str) -> Entry:
        match = self._connection.match("e" + " ([0-9a-f]{1,8})" * 7, line)
        function, index, flags, eax, ebx, ecx, edx = (int(word, 16) for word in match.groups())
        return Entry(function, index, flags, eax, ebx, ecx, edx)
