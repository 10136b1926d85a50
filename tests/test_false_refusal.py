"""The false refusal of 6.15 to 6.18.2: a vCPU's own CPUID is refused while a runtime bit waits for its update."""

from cpuidlab.testing import (
    Guest,
    PromiseTest,
    identical_while_pending,
    note_osxsave,
    promise,
    set_osxsave,
    system_reset,
)


class FalseRefusal(PromiseTest):
    """93da6af3ae56 made KVM put off the update of bits such as OSXSAVE; e2b43fb25243 does it before comparing."""

    @promise(identical_while_pending, calls=2)
    def test_after_system_reset(self, guest: Guest) -> None:
        """A system reset clears CR4.OSXSAVE behind the guest's back. The CPUID that each vCPU has, set again before
        anyone has read it, is accepted as ever, loses its OSXSAVE, and the guest boots (e2b43fb25243). Since
        93da6af3ae56 and until then it is refused, and KVM goes on to tell OSXSAVE."""
        set_osxsave(guest)
        system_reset(guest)
        guest.set_cpuid()
        note_osxsave(guest)
