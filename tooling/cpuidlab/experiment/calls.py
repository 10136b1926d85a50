"""The same call many times in a row on one vCPU: the hook makes and times them, and KVM's answer counts once."""

from dataclasses import dataclass

from cpuidlab.base.errors import LabError
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.observation import VcpuAnswer
from cpuidlab.kvm.hook_answers import Call, Row

ROW_SECONDS = 2.0  # a row ends then, with the call that is being made
# Such as ten thousand calls: on 7.3 a busy machine took more than 2 s for those that are accepted before the first run.
WHOLE_ROW_SECONDS = 10.0


@dataclass(frozen=True)
class Calls:
    """One kind of call: the CPUID with the named change, or as it was before where no change is named.

    `nent` and `call` are those of `Guest.set_cpuid`. With `bad` the model is one that KVM cannot read: neither it
    ("pointer"), or not its entries behind a count that can be read ("entries").
    """

    change: str = ""
    vcpu: int = 0
    call: Call = 2
    nent: int | None = None
    bad: str = ""

    def make(self, guest: Guest, times: int, *, live: bool = False, seconds: float = ROW_SECONDS) -> Row:
        """Make the call `times` times, and keep the answer; one that is answered otherwise ends the row.

        What the row did to the state of the vCPUs is taken in as if it were one call.
        The VM must be stopped, or running where `live`.
        """
        model = guest.models_with(self.change, [self.vcpu])[self.vcpu]
        nent = len(model) if self.bad == "entries" else self.nent
        sent = None if self.bad else model
        row = guest.rig.hook.set_row(times, self.vcpu, sent, self.call, nent, live=live, seconds=seconds)
        answers = [one for one in (row.answer, row.other) if one]
        guest.answers += [VcpuAnswer(self.vcpu, one.word) for one in answers]
        accepted_first = min(answers, key=lambda one: one.errno)  # what one accepted call may alter, the row may
        guest.state.take(guest.rig.hook, self.vcpu, accepted_first, self.change, self.call, live=live)
        return row

    def make_all(self, guest: Guest, times: int) -> Row:
        """Make all of them, for what can only be told of so many. Raises LabError where they take too long."""
        row = self.make(guest, times, seconds=WHOLE_ROW_SECONDS)
        if row.other is None and row.times < times:
            raise LabError(f"{row.times} calls instead of {times} were made within {WHOLE_ROW_SECONDS:.0f} s: {self}")
        return row

    def __str__(self) -> str:
        """The call in words, such as `KVM_SET_CPUID2 maxphyaddr=36 on vCPU 0`."""
        name = "KVM_SET_CPUID2" if self.call == 2 else "KVM_SET_CPUID"
        what = f"unreadable {self.bad}" if self.bad else self.change or "as before"
        count = "" if self.nent is None else f" nent={self.nent}"
        return f"{name} {what}{count} on vCPU {self.vcpu}"
