"""Let the witnesses of one test confirm each other: what the caller got, the hook's log, the host's log, QEMU's end."""

from collections.abc import Sequence

from cpuidlab.base.errors import LabError
from cpuidlab.experiment.observation import Observation


def agree(observation: Observation, hook: Sequence[tuple[int, str]], *, swept: bool = False) -> None:
    """Raise LabError where two witnesses contradict each other; then nothing can be said about the kernel.

    `hook` is what the hook's own log says of every set since the mark: vCPU and "accepted" or the errno's name, and
    `swept` whether it tells of a sweep, whose many sets are no answers.
    """
    told = sorted(((answer.vcpu, answer.answer) for answer in observation.answers), key=lambda one: one[0])
    logged = sorted(hook, key=lambda one: one[0])  # live sets of different vCPUs may be logged in any order
    fate = observation.fate
    contradictions = (
        (told != logged, f"the caller got {answers_text(told)}, the hook's log has {answers_text(logged)}"),
        (observation.warned and not hook and not swept, "the host warned of a KVM_SET_CPUID that the hook never saw"),
        (fate.alive and fate.exit_code is not None, f"QEMU is said to live and to have exited with {fate.exit_code}"),
        (not fate.alive and fate.how is None, "the guest is gone and nobody can say how it ended"),
        (not fate.alive and observation.guest is not None and observation.guest.stable,
         f"the guest is said to be stable, and QEMU to be gone ({fate.how})"),
    )  # fmt: skip
    for contradicts, text in contradictions:
        if contradicts:
            raise LabError(f"the witnesses contradict each other: {text}; see the evidence folder, run it again")


def answers_text(answers: Sequence[tuple[int, str]]) -> str:
    """Say in words what KVM answered on which vCPU."""
    return ", ".join(f"{answer} on vCPU {vcpu}" for vcpu, answer in answers) or "nothing"
