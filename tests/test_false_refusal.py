"""The false refusal of 6.15 to 6.18.2: a vCPU's own CPUID is refused while a runtime bit waits for its update."""

from cpuidlab.testing import (
    Guest,
    PromiseTest,
    bring_up,
    identical_while_pending,
    note_osxsave,
    promise,
    replug,
    replug_offline,
    replugged_while_pending,
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


class ByHotplug(PromiseTest):
    """The same defect as a VMM meets it: QEMU alone calls KVM, when it uses the vCPU again that it has unplugged."""

    route = "replug"

    @promise(replugged_while_pending)
    def test_after_replug(self, guest: Guest) -> None:
        """A CPU whose CR4.OSXSAVE is set goes offline, is unplugged and plugged in again, as is usual. QEMU resets its
        registers then, which clears CR4.OSXSAVE. The guest does not bring it up, and it is unplugged and plugged in
        once more: accepted as ever, and the guest can bring it up (e2b43fb25243). Since 93da6af3ae56 and until then KVM
        refuses it; QEMU ends then, and takes the guest with it."""
        set_osxsave(guest, cpu=1)
        if replug_offline(guest, vcpu=1):
            vcpu = replug(guest, vcpu=1)
            if vcpu is not None:
                bring_up(guest, cpu=vcpu)
