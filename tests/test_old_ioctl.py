"""KVM_SET_CPUID, the ioctl before KVM_SET_CPUID2, is held to the same promise."""

from dataclasses import replace

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.judge.expectations import changed, never_run


class OldIoctl(PromiseTest):
    """It carries neither index nor flags, so that it never equals a model that has some (kvm_vcpu_ioctl_set_cpuid)."""

    def test_before_run(self) -> None:
        """Before the first KVM_RUN, KVM_SET_CPUID is accepted silently in every era."""
        with self.story("guest_held") as story:
            story.set("maxphyaddr=36", call=1)
            story.set("maxphyaddr=36")
            self.conclude(story, never_run)

    def test_after_run(self) -> None:
        """After KVM_RUN, KVM_SET_CPUID with the very same leaves is a changed CPUID, since index and flags are lost:
        accepted or refused as the era says (63f5a1909f9e, feb627e8d6f6); where it is accepted the first model is put
        back by KVM_SET_CPUID2, and the guest stays stable."""
        with self.story() as story:
            if story.set(call=1) == ACCEPTED:
                story.set()
            promised = changed(len(story.answers))
            # what was asked for reads back just as what was there before
            self.conclude(story, lambda era: replace(promised(era), model="asked"))
