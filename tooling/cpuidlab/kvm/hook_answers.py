"""What the hook answers, as values."""

import errno
from dataclasses import dataclass, field
from typing import Literal

from cpuidlab.kvm.vcpu_state import Difference

Call = Literal[1, 2]  # KVM_SET_CPUID, KVM_SET_CPUID2
State = Literal["before", "after"]


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
