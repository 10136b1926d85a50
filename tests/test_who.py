"""Who is changed: all vCPUs is the usual case elsewhere; here it is some of them."""

from cpuidlab.testing import (
    Guest,
    PromiseTest,
    Stage,
    bring_up,
    changed,
    hot_add,
    never_run,
    never_run_and_stable,
    promise,
)


class Who(PromiseTest):
    """KVM has no promise between vCPUs: each has the model that it was given."""

    @promise(changed, calls=1)
    def test_one_of_two(self, guest: Guest) -> None:
        """MAXPHYADDR lowered to 36 on vCPU 1 alone after KVM_RUN: accepted or refused as the era says (feb627e8d6f6),
        each CPU of the guest sees what its own vCPU has, and the guest stays stable."""
        guest.set_cpuid("maxphyaddr=36", vcpus=[1])

    @promise(never_run_and_stable, calls=2, stage=Stage.GUEST_HELD)
    def test_different_from_the_start(self, guest: Guest) -> None:
        """Two vCPUs may have different models before they have run; that is accepted silently in every era, the guest
        boots, each of its CPUs sees what its own vCPU has, and it is stable."""
        guest.set_cpuid("maxphyaddr=39", vcpus=[0])
        guest.set_cpuid("gbpages=off", vcpus=[1])
        guest.let_boot()

    @promise(never_run)
    def test_guest_brings_up_a_narrower_cpu(self, guest: Guest) -> None:
        """A Linux guest brings up a hot-added CPU whose MAXPHYADDR is 36 instead of 40: accepted silently in every era,
        as that vCPU has never run. The guest writes its MTRR masks into the new CPU, where their upper bits are
        reserved; whether it gets over the #GP is its own affair, and its log in the evidence tells."""
        vcpu = hot_add(guest)
        if vcpu is not None:
            guest.set_cpuid("maxphyaddr=36", vcpus=[vcpu])
            bring_up(guest, cpu=vcpu)
