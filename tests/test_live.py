"""The VM need not be stopped: the vCPU's own thread calls before its next KVM_RUN, the other vCPUs running."""

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.judge.expectations import changed, identical


class Live(PromiseTest):
    """As AfterRun, without QMP's stop."""

    def test_identical(self) -> None:
        """The CPUID that each vCPU has, set again by its own thread between two KVM_RUNs (c6617c61e8fe)."""
        with self.story() as story:
            story.resume()
            story.set(live=True)
            self.conclude(story, identical(len(story.answers)))

    def test_maxphyaddr_36(self) -> None:
        """MAXPHYADDR lowered to 36, all RAM below it, by each vCPU's own thread between two KVM_RUNs (63f5a1909f9e,
        feb627e8d6f6)."""
        with self.story() as story:
            story.resume()
            story.set("maxphyaddr=36", live=True)
            self.conclude(story, changed(len(story.answers)))
