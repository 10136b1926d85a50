"""Before the first KVM_RUN a vCPU's CPUID belongs to userspace."""

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.judge.expectations import never_run, with_l2


class BeforeRun(PromiseTest):
    """The guest's vCPUs are made and have never entered the guest."""

    def test_any_model_any_times(self) -> None:
        """Before the first KVM_RUN any CPUID is accepted any number of times, silently, and read back as set, in
        every era (Documentation/virt/kvm/api.rst, KVM_SET_CPUID2)."""
        with self.story("guest_held") as story:
            for change in ("maxphyaddr=36", "gbpages=off", "", "vendor=intel", "maxphyaddr=32"):
                story.set(change)
            self.conclude(story, never_run)

    def test_with_nested_state(self) -> None:
        """Before the first KVM_RUN a changed CPUID is refused while L2 is active, as after KVM_SET_NESTED_STATE in
        guest mode (b47b93c15b12); before that commit it is accepted. Either way silently."""
        with self.story("guest_held") as story:
            story.rig.hook.load_l2(0)
            story.set("maxphyaddr=36", vcpus=[0])
            self.conclude(story, with_l2)
