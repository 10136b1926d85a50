"""Once a vCPU has run it has run: no reset makes it new."""

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.experiment.guest_ops import guest_reboot, put_online, send_init, system_reset
from cpuidlab.judge.expectations import changed


class HasRunStays(PromiseTest):
    """Nothing but vCPU creation sets last_vmentry_cpu to -1."""

    def test_after_system_reset(self) -> None:
        """After a system reset of the VM a changed CPUID is still answered as after KVM_RUN: accepted or refused
        (feb627e8d6f6) as the era says; the guest boots again and is stable."""
        with self.story() as story:
            system_reset(story)
            story.set("gbpages=off")  # a guest boots with it even where a broken kernel takes it on one vCPU alone
            self.conclude(story, changed(len(story.answers)))

    def test_after_guest_reboot(self) -> None:
        """After the guest has rebooted itself a changed CPUID is still answered as after KVM_RUN (feb627e8d6f6)."""
        with self.story() as story:
            guest_reboot(story)
            story.set("gbpages=off")
            self.conclude(story, changed(len(story.answers)))

    def test_after_init(self) -> None:
        """After INIT, while the vCPU waits for SIPI, a changed CPUID of that vCPU is still answered as after KVM_RUN
        (feb627e8d6f6); SIPI brings it up again."""
        with self.story() as story:
            send_init(story, cpu=1)
            story.set("hypervisor=off", vcpus=[1])  # a narrower CPU may kill a guest that brings it up
            put_online(story, cpu=1)
            self.conclude(story, changed(len(story.answers)))
