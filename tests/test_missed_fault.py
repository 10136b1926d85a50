"""The damage: a guest page fault that KVM misses, because the shadow page was made under another CPUID.

MAXPHYADDR, GBPAGES and the vendor decide which bits of a guest's page-table entry are reserved; none is part of the
shadow page's role, so that a shadow page of the old model serves the new one, as 63f5a1909f9e tells. A new memslot,
or nx_huge_pages written, makes KVM drop the shadow pages, and what was missed is seen.
"""

from collections.abc import Callable

from cpuidlab.testing import (
    ACCEPTED,
    Guest,
    Page,
    PageReaders,
    PromiseTest,
    add_memslot,
    drop_shadow_pages,
    fault_missed,
    fault_missed_of_former_vendor,
    fault_missed_with_new_rules,
    no_fault,
    promise,
)

HOLE_1G = 0x4000_0000  # no memory there, and a multiple of 1 GiB
HOLE = 0x20_0000_0000  # no memory there, and its bit 37 is reserved where MAXPHYADDR is 36
BIT_8 = 0x100  # of an entry in the two upper levels: reserved on AMD, ignored on Intel (AMD APM volume 2, 5.3)
# 2 MiB. Only a shadow page of the last level can be out of sync, and KVM before 5.16 takes it out of sync when it maps
# a neighbour of the guest's table (f1c4a88c41ea). Syncing obeys the new rules, and renews what a memslot outdated.
LARGE = 2
HUGE = 3  # 1 GiB


class MissedFault(PromiseTest):
    """Only shadow paging can miss such a fault: with NPT the hardware walks by the host's rules, and sees none."""

    @promise(fault_missed_with_new_rules, npt=no_fault, calls=2)
    def test_gbpages_hole(self, guest: Guest) -> None:
        """A 1 GiB page in a hole of guest memory, then GBPAGES cleared (63f5a1909f9e): with MMU re-initialization
        (49c6f8756cdf) a new mapping faults with error code 9, the old one reads on until a memslot is added."""
        _change_under_readers(guest, Page(HUGE, address=HOLE_1G), "gbpages=off", add_memslot)

    @promise(fault_missed_with_new_rules, npt=no_fault, calls=2)
    def test_gbpages_ram(self, guest: Guest) -> None:
        """The same with real memory behind the page, and nx_huge_pages to drop the shadow pages (63f5a1909f9e)."""
        _change_under_readers(guest, Page(HUGE), "gbpages=off", drop_shadow_pages)

    @promise(fault_missed, npt=no_fault, calls=2)
    def test_maxphyaddr(self, guest: Guest) -> None:
        """A 2 MiB page whose address has bit 37, then MAXPHYADDR lowered to 36 (63f5a1909f9e): a new mapping faults
        with error code 9, the old one reads on until a memslot is added; KVM of 5.10 looks at MAXPHYADDR by itself."""
        _change_under_readers(guest, Page(LARGE, address=HOLE), "maxphyaddr=36", add_memslot)

    @promise(fault_missed_of_former_vendor, npt=no_fault)
    def test_vendor(self, guest: Guest) -> None:
        """Bit 8, which is reserved on AMD alone, in a guest that is made Intel and then AMD again (63f5a1909f9e): a
        new mapping faults with error code 9, the old one reads on until a memslot is added; where Intel is refused
        (feb627e8d6f6) or its rules are not taken over, it faults from the beginning."""
        answer = guest.set_cpuid("vendor=intel")
        readers = PageReaders(guest, Page(LARGE, address=HOLE, bits=BIT_8))
        if answer == ACCEPTED:
            guest.stop()
            guest.set_cpuid()
            guest.resume()
        _look(guest, readers, add_memslot)


def _change_under_readers(guest: Guest, page: Page, change: str, drop: Callable[[Guest], None]) -> None:
    readers = PageReaders(guest, page)
    readers.read("before the change")
    guest.stop()
    guest.set_cpuid(change)
    guest.resume()
    _look(guest, readers, drop)


def _look(guest: Guest, readers: PageReaders, drop: Callable[[Guest], None]) -> None:
    """Note who faults right after the change, and after KVM has dropped its shadow pages."""
    guest.note(readers.read("after the change"))
    drop(guest)
    guest.note(readers.read("after the shadow pages were dropped"))
