"""The VM need not be stopped: the vCPU's own thread calls before its next KVM_RUN, the other vCPUs running."""

from cpuidlab.testing import Guest, PromiseTest, changed, identical, promise


class Live(PromiseTest):
    """As AfterRun, without QMP's stop."""

    @promise(identical, calls=2)
    def test_identical(self, guest: Guest) -> None:
        """The CPUID that each vCPU has, set again by its own thread between two KVM_RUNs (c6617c61e8fe)."""
        guest.resume()
        guest.set_cpuid(live=True)

    @promise(changed, calls=2)
    def test_maxphyaddr_36(self, guest: Guest) -> None:
        """MAXPHYADDR lowered to 36, all RAM below it, by each vCPU's own thread between two KVM_RUNs (63f5a1909f9e,
        feb627e8d6f6)."""
        guest.resume()
        guest.set_cpuid("maxphyaddr=36", live=True)
