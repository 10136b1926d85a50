"""What the host's kernel says: both lines, at level warning, once for each accepted change, within their rate limit."""

from cpuidlab.testing import Guest, PromiseTest, changed, changed_in_bursts, promise

BURST = 40  # changes at once
PAUSE_SECONDS = 6.0  # DEFAULT_RATELIMIT_INTERVAL is 5 s (include/linux/ratelimit_types.h)


class HostLog(PromiseTest):
    """pr_warn_ratelimited() of 63f5a1909f9e; silence in every other era."""

    @promise(changed, calls=3)
    def test_once_for_each_change(self, guest: Guest) -> None:
        """Three accepted changes of one vCPU that has run are three pairs of lines at level 4, in the warning era; in
        every other era, and for refused changes, there is none (63f5a1909f9e)."""
        for change in ("maxphyaddr=36", "maxphyaddr=37", "maxphyaddr=38"):
            guest.set_cpuid(change, vcpus=[0])

    @promise(changed_in_bursts, calls=BURST + 1)
    def test_burst(self, guest: Guest) -> None:
        """Of 40 changes at once no more than the burst of 10 pairs is logged (DEFAULT_RATELIMIT_BURST); a change 6 s
        later is logged again, with the note of how many lines were held back."""
        for count in range(BURST):
            guest.set_cpuid(f"maxphyaddr={36 + count % 2}", vcpus=[0])
        guest.wait(PAUSE_SECONDS)
        guest.set_cpuid("maxphyaddr=38", vcpus=[0])
