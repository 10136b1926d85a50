"""A latent fault: the change harms nothing until the host drops its shadow pages, then the guest dies of it."""

from dataclasses import replace

from cpuidlab.eras import Era
from cpuidlab.expect import changed
from cpuidlab.observation import ACCEPTED
from cpuidlab.observers import drop_shadow_pages
from cpuidlab.promise import PromiseTest
from cpuidlab.verdict import Expectation


class ReleasedFault(PromiseTest):
    """All memory of this guest lies behind 1 GiB pages of its kernel's direct map."""

    def test_gbpages_off_then_drop(self) -> None:
        """GBPAGES cleared after KVM_RUN, the guest alive; then nx_huge_pages is written on the host and KVM makes new
        shadow pages by the new rules (63f5a1909f9e, 49c6f8756cdf): the guest's direct map holds reserved bits now and
        it dies. It lives where KVM kept the old rules, where the hardware walks (NPT) and where the change was refused
        (feb627e8d6f6)."""

        def expect(era: Era) -> Expectation:
            dies = era.changed == ACCEPTED and era.lines and self.paging == "shadow"
            promised = changed(2, deadly=dies)(era)
            return replace(promised, notes=("alive at first",))

        with self.story(profile="highmem") as story:
            story.set("gbpages=off")
            story.resume()
            story.rig.guest.run("cat /proc/uptime", story.deadline)
            story.notes.append("alive at first")
            drop_shadow_pages(story)
            self.conclude(story, expect)
