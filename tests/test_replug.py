"""The route without a hook: a vCPU is unplugged with the guest's help and plugged in again, over QMP alone.

QEMU keeps the vCPU that it unplugged and uses it again (kvm_park_vcpu), so that KVM sees KVM_SET_CPUID2 on a vCPU that
has run. The hook only listens here.
"""

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.experiment.experiment import Story
from cpuidlab.experiment.guest_ops import bring_up, hot_add, replug
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.judge.eras import Era
from cpuidlab.judge.expectations import changed, identical, same_everywhere
from cpuidlab.judge.verdict import Expectation


class Replug(PromiseTest):
    """QEMU tells a refusal only by ending with a general line; the hook's log names the ioctl and the errno."""

    route = "replug"

    def test_same_features(self) -> None:
        """Unplugged and plugged in again with the same features: accepted wherever the era accepts the identical CPUID
        (c6617c61e8fe); the guest brings the CPU up again and stays stable."""
        with self.story() as story:
            self._replug(story)
            self.conclude(story, identical(1))

    def test_other_features(self) -> None:
        """Unplugged and plugged in again without GBPAGES: accepted, and the guest has two different CPUs and stays
        stable, or refused (feb627e8d6f6), and then QEMU ends and takes the guest with it."""

        def expect(era: Era) -> Expectation:
            if era.changed == ACCEPTED:
                return changed(1)(era)
            return Expectation(answer=era.changed, guest="dies")

        with self.story() as story:
            self._replug(story, pdpe1gb=False)
            self.conclude(story, expect)

    def test_hot_add_other_features(self) -> None:
        """A vCPU that never ran is plugged in without GBPAGES: accepted silently in every era, and the guest brings it
        up and stays stable."""
        with self.story() as story:
            vcpu = hot_add(story, pdpe1gb=False)
            if vcpu is not None:
                bring_up(story, cpu=vcpu)
            self.conclude(story, same_everywhere(ACCEPTED))

    def _replug(self, story: Story, **features: bool) -> None:
        vcpu = replug(story, 1, **features)
        if vcpu is not None:
            bring_up(story, cpu=vcpu)
