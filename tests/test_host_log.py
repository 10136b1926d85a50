"""What the host's kernel says: both lines, at level warning, once for each accepted change, within their rate limit."""

from dataclasses import replace

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.judge.eras import Era
from cpuidlab.judge.expectations import changed
from cpuidlab.judge.verdict import Expectation
from cpuidlab.kvm.warning import RATE_LIMIT_BURST

BURST = 40
PAUSE_SECONDS = 6.0  # DEFAULT_RATELIMIT_INTERVAL is 5 s (include/linux/ratelimit_types.h)


class HostLog(PromiseTest):
    """pr_warn_ratelimited() of 63f5a1909f9e; silence in every other era."""

    def test_once_for_each_change(self) -> None:
        """Three accepted changes of one vCPU that has run are three pairs of lines at level 4, in the warning era; in
        every other era, and for refused changes, there is none (63f5a1909f9e)."""
        with self.story() as story:
            for change in ("maxphyaddr=36", "maxphyaddr=37", "maxphyaddr=38"):
                story.set(change, vcpus=[0])
            self.conclude(story, changed(3))

    def test_burst(self) -> None:
        """Of 40 changes at once no more than the burst of 10 pairs is logged (DEFAULT_RATELIMIT_BURST); a change 6 s
        later is logged again, with the note of how many lines were held back."""

        def expect(era: Era) -> Expectation:
            return replace(changed(BURST + 1)(era), limited=RATE_LIMIT_BURST + 1 if era.lines else None)

        with self.story() as story:
            for count in range(BURST):
                story.set(f"maxphyaddr={36 + count % 2}", vcpus=[0])
            story.deadline.within(PAUSE_SECONDS).sleep()
            story.set("maxphyaddr=38", vcpus=[0])
            self.conclude(story, expect)
