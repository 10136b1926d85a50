"""The damage: a guest page fault that KVM misses, because the shadow page was made under another CPUID.

MAXPHYADDR, GBPAGES and the vendor decide which bits of a guest's page-table entry are reserved; none is part of the
shadow page's role, so that a shadow page of the old model serves the new one, as 63f5a1909f9e tells. A new memslot,
or nx_huge_pages written, makes KVM drop the shadow pages, and what was missed is seen.
"""

from collections.abc import Callable
from dataclasses import replace

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.experiment.experiment import Story
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.experiment.page_probe import Observers, add_memslot, drop_shadow_pages
from cpuidlab.judge.eras import Era
from cpuidlab.judge.expectations import Promise, changed
from cpuidlab.judge.verdict import Expectation

HOLE = 0x20_0000_0000  # no memory there, and its bit 37 is reserved where MAXPHYADDR is 36
BIT_8 = 0x100  # of an entry in the two upper levels: reserved on AMD, ignored on Intel (AMD APM volume 2, 5.3)
# 2 MiB. Only a shadow page of the last level can be out of sync, and KVM before 5.16 takes it out of sync when it maps
# a neighbour of the guest's table (f1c4a88c41ea). Syncing obeys the new rules, and renews what a memslot outdated.
LARGE = 2
MISSED, FAULT, NONE = "missed fault", "fault", "no fault"


class MissedFault(PromiseTest):
    """Only shadow paging can miss such a fault: with NPT the hardware walks by the host's rules, and sees none."""

    def test_gbpages_hole(self) -> None:
        """A 1 GiB page in a hole of guest memory, then GBPAGES cleared (63f5a1909f9e): with MMU re-initialization
        (49c6f8756cdf) a new mapping faults with error code 9, the old one reads on until a memslot is added."""
        self._missed("3 0x40000000 0", "gbpages=off", add_memslot, without_reinit=NONE)

    def test_gbpages_ram(self) -> None:
        """The same with real memory behind the page, and nx_huge_pages to drop the shadow pages (63f5a1909f9e)."""
        self._missed("3 ram 0", "gbpages=off", drop_shadow_pages, without_reinit=NONE)

    def test_maxphyaddr(self) -> None:
        """A 2 MiB page whose address has bit 37, then MAXPHYADDR lowered to 36 (63f5a1909f9e): a new mapping faults
        with error code 9, the old one reads on until a memslot is added; KVM of 5.10 looks at MAXPHYADDR by itself."""
        self._missed(f"{LARGE} {HOLE:#x} 0", "maxphyaddr=36", add_memslot, without_reinit=MISSED)

    def test_vendor(self) -> None:
        """Bit 8, which is reserved on AMD alone, in a guest that is made Intel and then AMD again (63f5a1909f9e): a
        new mapping faults with error code 9, the old one reads on until a memslot is added; where Intel is refused
        (feb627e8d6f6) or its rules are not taken over, it faults from the beginning."""
        page = f"{LARGE} {HOLE:#x} {BIT_8:x}"

        def expect(era: Era) -> Expectation:
            if self.paging == "npt":
                return self._noting(era, NONE, NONE, calls=4)
            if era.changed == ACCEPTED and era.lines:
                return self._noting(era, MISSED, FAULT, calls=4)
            return self._noting(era, FAULT, FAULT, calls=4)

        with self.story() as story:
            accepted = story.set("vendor=intel") == ACCEPTED
            story.resume()
            observers = Observers(story, page)
            if accepted:
                story.stop()
                story.set()
                story.resume()
            self._look(story, observers, add_memslot)
            self.conclude(story, expect)

    def _missed(self, page: str, change: str, drop: Callable[[Story], None], without_reinit: str) -> None:
        with self.story() as story:
            story.resume()
            observers = Observers(story, page)
            observers.read("before the change")
            story.stop()
            story.set(change)
            story.resume()
            self._look(story, observers, drop)
            self.conclude(story, self._promise(without_reinit))

    def _look(self, story: Story, observers: Observers, drop: Callable[[Story], None]) -> None:
        story.notes.append(observers.read("after the change"))
        drop(story)
        story.notes.append(f"then {observers.read('after the shadow pages were dropped')}")

    def _promise(self, without_reinit: str) -> Promise:
        def expect(era: Era) -> Expectation:
            if era.changed != ACCEPTED or self.paging == "npt":
                return self._noting(era, NONE, NONE, calls=2)
            after = MISSED if era.lines else without_reinit
            return self._noting(era, after, FAULT if after == MISSED else NONE, calls=2)

        return expect

    def _noting(self, era: Era, after: str, dropped: str, calls: int) -> Expectation:
        promised = changed(calls)(era)
        return replace(promised, notes=(after, f"then {dropped}"))
