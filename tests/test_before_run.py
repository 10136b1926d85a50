"""Before the first KVM_RUN a vCPU's CPUID belongs to userspace."""

from cpuidlab.expect import never_run
from cpuidlab.promise import PromiseTest


class BeforeRun(PromiseTest):
    """The guest's vCPUs are made and have never entered the guest."""

    def test_any_model_any_times(self) -> None:
        """Before the first KVM_RUN any CPUID is accepted any number of times, silently, and read back as set, in
        every era (Documentation/virt/kvm/api.rst, KVM_SET_CPUID2)."""
        with self.story("guest_held") as story:
            for change in ("maxphyaddr=36", "gbpages=off", "", "vendor=intel", "maxphyaddr=32"):
                story.set(change)
            self.conclude(story, never_run)
