"""Who is changed: all vCPUs is the usual case elsewhere; here it is some of them."""

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.experiment.guest_ops import bring_up, hot_add
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.judge.expectations import changed, same_everywhere
from cpuidlab.judge.verdict import Expectation


class Who(PromiseTest):
    """KVM has no promise between vCPUs: each has the model that it was given."""

    def test_one_of_two(self) -> None:
        """MAXPHYADDR lowered to 36 on vCPU 1 alone after KVM_RUN: accepted or refused as the era says (feb627e8d6f6),
        each CPU of the guest sees what its own vCPU has, and the guest stays stable."""
        with self.story() as story:
            story.set("maxphyaddr=36", vcpus=[1])
            self.conclude(story, changed(1))

    def test_different_from_the_start(self) -> None:
        """Two vCPUs may have different models before they have run; that is accepted silently in every era, the guest
        boots, each of its CPUs sees what its own vCPU has, and it is stable."""
        with self.story("guest_held") as story:
            story.set("maxphyaddr=39", vcpus=[0])
            story.set("gbpages=off", vcpus=[1])
            story.boots()
            self.conclude(story, same_everywhere(ACCEPTED))

    def test_guest_brings_up_a_narrower_cpu(self) -> None:
        """A Linux guest brings up a hot-added CPU whose MAXPHYADDR is 36 instead of 40: accepted silently in every era,
        as that vCPU has never run. The guest writes its MTRR masks into the new CPU, where their upper bits are
        reserved; whether it gets over the #GP is its own affair, and its log in the evidence tells."""
        with self.story() as story:
            vcpu = hot_add(story)
            if vcpu is not None:
                story.set("maxphyaddr=36", vcpus=[vcpu])
                bring_up(story, cpu=vcpu)
            self.conclude(story, lambda _: Expectation(answer=ACCEPTED, model="asked", guest=None))
