"""Has-run is a property of one vCPU, not of its VM."""

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.experiment.guest_ops import bring_up, hot_add, run_first_vcpu_only
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.judge.expectations import same_everywhere


class NeverRunSibling(PromiseTest):
    """last_vmentry_cpu, which 63f5a1909f9e and feb627e8d6f6 look at, belongs to the vCPU and begins as -1."""

    def test_vcpu_not_woken_yet(self) -> None:
        """While vCPU 0 has run and vCPU 1 still waits for its first SIPI, vCPU 1 takes another CPUID silently in every
        era; the guest then boots with both and is stable."""
        with self.story("guest_held") as story:
            run_first_vcpu_only(story)
            story.set("gbpages=off", vcpus=[1])
            self.conclude(story, same_everywhere(ACCEPTED))

    def test_hot_added_vcpu(self) -> None:
        """A vCPU that is hot-added to a running guest has never run: it takes another CPUID silently in every era,
        from QEMU when it is made and again from us; the guest brings it up and stays stable."""
        with self.story() as story:
            vcpu = hot_add(story)
            if vcpu is not None:
                story.set("gbpages=off", vcpus=[vcpu])
                bring_up(story, cpu=vcpu)
            self.conclude(story, same_everywhere(ACCEPTED))
