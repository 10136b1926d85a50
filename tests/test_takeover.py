"""A guest that has run goes on with vCPUs of another CPUID: live migration, and a snapshot loaded by another VMM.

The new vCPUs have not run, so every era accepts their CPUID: KVM does not know whose state they are about to get. What
63f5a1909f9e warns of and feb627e8d6f6 forbids is not prevented by that. QEMU saves the guest, ends, and another QEMU
with another CPU model loads the state.
"""

from cpuidlab.testing import (
    BareVm,
    Guest,
    LastingReader,
    Note,
    Page,
    PromiseTest,
    Rule,
    Stage,
    never_run,
    noting,
    promise,
    take_over,
    taken_over,
    taken_over_at_own_risk,
    taken_over_with_fault,
    taken_over_without_fault,
    taken_over_without_registers,
)

HOLE = 0x20_0000_0000  # no memory there, and its bit 37 is reserved where MAXPHYADDR is 36


class Takeover(PromiseTest):
    """The VMM alone answers for the CPUID here; KVM refuses only control registers that do not fit it."""

    route = "migrate"

    @promise(taken_over, calls=2)
    def test_same(self, guest: Guest) -> None:
        """The same CPUID: accepted silently in every era, and the guest goes on and is stable."""
        take_over(guest)

    @promise(taken_over, calls=2)
    def test_maxphyaddr_36(self, guest: Guest) -> None:
        """MAXPHYADDR 36, all RAM below it: accepted silently in every era, and the guest goes on and is stable."""
        take_over(guest, "maxphyaddr=36")

    @promise(taken_over_with_fault, npt=taken_over_without_fault, calls=2)
    def test_maxphyaddr_36_below_page(self, guest: Guest) -> None:
        """MAXPHYADDR 36, and the guest has a page whose address has bit 37: accepted silently in every era, though
        feb627e8d6f6 forbids the same change. With shadow paging the guest's next access is a fault with the reserved
        bit; with NPT or EPT the processor goes by the host's MAXPHYADDR and the page stays readable."""
        _take_over_under_reader(guest, Page(2, address=HOLE), "maxphyaddr=36")

    @promise(taken_over_with_fault, npt=taken_over_without_fault, calls=2)
    def test_gbpages_off(self, guest: Guest) -> None:
        """No GBPAGES, and the guest has a 1 GiB page: accepted silently in every era, though feb627e8d6f6 forbids the
        same change. With shadow paging the guest's next access is a fault with the reserved bit; with NPT or EPT the
        processor has 1 GiB pages and the page stays readable."""
        _take_over_under_reader(guest, Page(3), "gbpages=off")

    @promise(taken_over_without_registers, calls=2)
    def test_smep_off(self, guest: Guest) -> None:
        """No SMEP, and the guest has set CR4.SMEP: the CPUID is accepted silently in every era, and KVM_SET_SREGS
        refuses the CR4: a VMM that goes on without registers has lost the guest."""
        take_over(guest, "smep=off")

    @promise(taken_over_at_own_risk, calls=2)
    def test_nx_off(self, guest: Guest) -> None:
        """No NX, and the guest has set EFER.NX: the CPUID is accepted silently in every era. Some versions take the
        EFER, and the guest goes on; others refuse it in KVM_SET_SREGS, also in updates of the same series."""
        take_over(guest, "nx=off")


class BelowCr3(PromiseTest):
    """No QEMU takes part: from 10.0 on it makes no VM whose memory does not fit into MAXPHYADDR."""

    route = "bare"

    @promise(noting(never_run, Note.GOES_BY_NEW), calls=1, stage=Stage.HOST_READY)
    def test_maxphyaddr_36_below_cr3(self, vm: BareVm) -> None:
        """MAXPHYADDR 36 for a vCPU that has not run, and the guest's CR3 has bit 38: the CPUID is accepted silently in
        every era, and KVM_SET_SREGS refuses the CR3."""
        vm.make_vcpu()
        Rule.CR3_BIT_38.begin(vm)
        vm.set_cpuid("maxphyaddr=36")
        Rule.CR3_BIT_38.note(vm)


def _take_over_under_reader(guest: Guest, page: Page, change: str) -> None:
    reader = LastingReader(guest, page)
    take_over(guest, change)
    guest.resume()
    guest.note(reader.read("after the takeover"))
