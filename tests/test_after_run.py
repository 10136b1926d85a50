"""After the first KVM_RUN: the same CPUID again, and another one, on all vCPUs with the VM stopped."""

from cpuidlab.testing import (
    Guest,
    PromiseTest,
    changed,
    changed_at_own_risk,
    identical,
    memory_out_of_reach,
    promise,
)


class AfterRun(PromiseTest):
    """Commits 63f5a1909f9e (warns), feb627e8d6f6 (forbids), c6617c61e8fe (allows what changes nothing)."""

    @promise(identical, calls=2)
    def test_identical(self, guest: Guest) -> None:
        """The CPUID that each vCPU has, set again after KVM_RUN, changes nothing: accepted where the era allows it
        (c6617c61e8fe), with both warning lines for each vCPU where it warns (63f5a1909f9e); the guest stays stable."""
        guest.set_cpuid()

    @promise(changed, calls=2)
    def test_maxphyaddr_36(self, guest: Guest) -> None:
        """MAXPHYADDR lowered to 36 after KVM_RUN, all RAM below it: applied silently, applied with both warning lines
        (63f5a1909f9e) or refused with EINVAL (feb627e8d6f6, ee3a5f9e3d9b) as the era says; the guest stays stable."""
        guest.set_cpuid("maxphyaddr=36")

    @promise(memory_out_of_reach, npt=changed_at_own_risk, calls=2, profile="highmem")
    def test_maxphyaddr_32_below_ram(self, guest: Guest) -> None:
        """MAXPHYADDR lowered to 32 after KVM_RUN, RAM above 4 GiB: accepted as the era says, and the guest's own page
        tables hold reserved bits now. With shadow paging KVM finds them, and the guest dies or is harmed; with NPT or
        EPT the processor finds none, and nobody promises what becomes of the guest. Where the change is refused
        (feb627e8d6f6, ee3a5f9e3d9b) the guest stays stable."""
        guest.set_cpuid("maxphyaddr=32")
