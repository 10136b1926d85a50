"""Ten thousand calls of each kind lose none of the host's memory: each sends a table that KVM copies, and must free."""

from cpuidlab.testing import (
    ACCEPTED,
    Calls,
    Guest,
    Note,
    PromiseTest,
    Stage,
    changed,
    fails_with,
    identical,
    memory_kept,
    never_run,
    note_memory,
    noting,
    promise,
)

TOO_MANY = 257  # KVM_MAX_CPUID_ENTRIES is 256 (arch/x86/include/asm/kvm_host.h)
WRONG_WIDTH = "vaddr_width=40"  # neither 0, 48 nor 57: refused by kvm_check_cpuid(), after the copy
BOTH = (1, 2)  # KVM_SET_CPUID, KVM_SET_CPUID2


class AfterRun(PromiseTest):
    """On a vCPU that has run, VM stopped."""

    @promise(memory_kept(identical), calls=3)
    def test_identical(self, guest: Guest) -> None:
        """After KVM_RUN no memory is lost with the same CPUID set again; 5.16.3 and 5.16.4 lose a copy with each such
        call (c6617c61e8fe, mended in 5c89be1dd5cf)."""
        note_memory(guest, Calls())

    @promise(memory_kept(changed))
    def test_changed(self, guest: Guest) -> None:
        """After KVM_RUN no memory is lost with another CPUID, by both ioctls: refused as the era says (feb627e8d6f6),
        or accepted, and the first one is put back then."""
        if note_memory(guest, *(Calls("maxphyaddr=36", call=call) for call in BOTH)) == ACCEPTED:
            guest.set_cpuid()

    @promise(noting(fails_with("EINVAL"), Note.MEMORY_KEPT), calls=6)
    def test_wrong_in_itself(self, guest: Guest) -> None:
        """After KVM_RUN no memory is lost with a CPUID that kvm_check_cpuid refuses in every era, by both ioctls."""
        note_memory(guest, *(Calls(WRONG_WIDTH, call=call) for call in BOTH))

    @promise(noting(fails_with("EFAULT"), Note.MEMORY_KEPT), calls=12)
    def test_unreadable(self, guest: Guest) -> None:
        """After KVM_RUN no memory is lost with a pointer that is not mapped (EFAULT), nor with entries that are not,
        behind a count that is, by both ioctls."""
        note_memory(
            guest, *(Calls("maxphyaddr=36", call=call, bad=bad) for bad in ("pointer", "entries") for call in BOTH)
        )

    @promise(noting(fails_with("E2BIG"), Note.MEMORY_KEPT), calls=6)
    def test_too_many_entries(self, guest: Guest) -> None:
        """After KVM_RUN no memory is lost with more entries than KVM_MAX_CPUID_ENTRIES (E2BIG), by both ioctls."""
        note_memory(guest, *(Calls("maxphyaddr=36", call=call, nent=TOO_MANY) for call in BOTH))


class BeforeRun(PromiseTest):
    """On a vCPU that has never run."""

    @promise(noting(never_run, Note.MEMORY_KEPT), calls=9, stage=Stage.GUEST_HELD)
    def test_new_before_run(self, guest: Guest) -> None:
        """Before the first KVM_RUN no memory is lost with another CPUID, nor with the same again, by both ioctls: the
        table that a new one replaces is freed."""
        note_memory(guest, Calls("maxphyaddr=36", call=1), Calls(), Calls("maxphyaddr=36"))

    @promise(noting(fails_with("EINVAL", has_run=False), Note.MEMORY_KEPT), calls=6, stage=Stage.GUEST_HELD)
    def test_wrong_before_run(self, guest: Guest) -> None:
        """Before the first KVM_RUN no memory is lost with a CPUID that kvm_check_cpuid refuses, by both ioctls."""
        note_memory(guest, *(Calls(WRONG_WIDTH, call=call) for call in BOTH))

    @promise(noting(fails_with("EFAULT", has_run=False), Note.MEMORY_KEPT), calls=12, stage=Stage.GUEST_HELD)
    def test_unreadable_before_run(self, guest: Guest) -> None:
        """Before the first KVM_RUN no memory is lost with a pointer or entries that are not mapped (EFAULT), by both
        ioctls."""
        note_memory(
            guest, *(Calls("maxphyaddr=36", call=call, bad=bad) for bad in ("pointer", "entries") for call in BOTH)
        )
