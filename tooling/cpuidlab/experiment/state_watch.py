"""What the calls of a test have done to the state of the vCPUs, and the text of it for the evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cpuidlab.experiment.observation import ACCEPTED, REPLUG, SWEEP, Touched
from cpuidlab.kvm.hook import Hook
from cpuidlab.kvm.hook_answers import Answer, Call, State
from cpuidlab.kvm.state_rules import without_what_moves
from cpuidlab.kvm.vcpu_state import Difference

_STATES: tuple[State, ...] = ("before", "after")


class StateWatch:
    """Takes in the report on each call.

    `touched` holds the calls after which something else had changed than what moves by itself.
    """

    def __init__(self) -> None:
        self.touched: list[Touched] = []
        self._lines: list[str] = []
        self._texts: dict[State, str] = {}
        self._set: dict[int, str] = {}  # what was accepted last on each vCPU that was called

    def take(self, hook: Hook, vcpu: int, answer: Answer, change: str, call: Call = 2, *, live: bool = False) -> None:
        """Take in what a call on a vCPU did; `change` is what it asked for. The hook keeps the state around it."""
        change = self._altered(vcpu, answer, change, call)
        self._take(Touched(vcpu, call, answer.word, change, answer.differences), live=live)
        if self.touched:
            self.read(hook)

    def take_sweep(self, vcpu: int, differences: tuple[Difference, ...]) -> None:
        """Take in what a sweep of a vCPU did, all its calls together."""
        self._take(Touched(vcpu, 2, ACCEPTED, SWEEP, differences), live=False)

    def take_logged(self, vcpu: int, answer: Answer) -> None:
        """Take in what a call of QEMU's own did, the VM running."""
        self._take(Touched(vcpu, 2, answer.word, REPLUG, answer.differences), live=True)

    def read(self, hook: Hook) -> None:
        """Read the whole state before and after the last call on each vCPU, once a test.

        That is the first call that touched something, or else the last call of the test.
        """
        if not self._texts:
            self._texts = {state: _text(hook, tuple(self._set), state) for state in _STATES}

    def files(self) -> Mapping[str, str]:
        """Return what the evidence keeps: file name -> text."""
        states = {f"vcpu-state-{state}.txt": text for state, text in self._texts.items()}
        return {**states, "vcpu-state-diff.txt": "".join(f"{line}\n" for line in self._lines)}

    def _altered(self, vcpu: int, answer: Answer, change: str, call: Call) -> str:
        """Name what a call was to alter: an accepted one takes another change back as well. Empty for an identical."""
        wanted = ",".join(filter(None, (change, "old_ioctl" if call == 1 else "")))
        standing = self._set.setdefault(vcpu, "")
        if answer.ret:
            return wanted
        self._set[vcpu] = wanted
        return "" if wanted == standing else ",".join(filter(None, (standing, wanted)))

    def _take(self, call: Touched, *, live: bool) -> None:
        asked = call.change or "what was there"
        self._lines.append(f"vCPU {call.vcpu}, {call.name}, {asked}: {call.answer}")
        self._lines += [f"    vCPU {one.vcpu}: {one}" for one in call.differences]
        left = without_what_moves(call.differences, live=live)
        if left:
            self.touched.append(replace(call, differences=left))


def _text(hook: Hook, vcpus: Sequence[int], state: State) -> str:
    return "\n".join(f"vCPU {vcpu}\n{hook.state(vcpu, state)}" for vcpu in vcpus)
