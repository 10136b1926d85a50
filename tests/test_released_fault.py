"""A latent fault, released: an accepted change that harms nothing until the host drops its shadow pages."""

from cpuidlab.testing import (
    Guest,
    Page,
    PageReaders,
    PromiseTest,
    drop_shadow_pages,
    fault_released,
    no_fault_released,
    promise,
)


class ReleasedFault(PromiseTest):
    """Why 63f5a1909f9e warns of instability: the harm comes when the host does something else, long afterwards."""

    @promise(fault_released, npt=no_fault_released, calls=2)
    def test_gbpages(self, guest: Guest) -> None:
        """The guest's kernel uses memory behind a 1 GiB page, then GBPAGES is cleared: at first nothing happens; after
        a write to nx_huge_pages on the host the same access is an oops (63f5a1909f9e). Under npt, without MMU
        re-initialization (49c6f8756cdf) or where the change is refused (feb627e8d6f6), the guest stays stable."""
        readers = PageReaders(guest, Page(level=3))
        guest.stop()
        guest.set_cpuid("gbpages=off")
        guest.resume()
        guest.note(readers.touch("after the change"))
        drop_shadow_pages(guest)
        guest.note(readers.touch("after the shadow pages were dropped"))
