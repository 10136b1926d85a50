"""What a call costs in time: its caller, the vCPU beside, and the guest whose timers are pending."""

from cpuidlab.testing import (
    Calls,
    Guest,
    Note,
    PromiseTest,
    changed,
    fails_with,
    identical,
    in_turn,
    note_slowness,
    note_timers,
    promise,
)

CHANGED = "maxphyaddr=36"
TOO_MANY = 257  # KVM_MAX_CPUID_ENTRIES is 256 (arch/x86/include/asm/kvm_host.h)
IN_ROW = 10_000


class Caller(PromiseTest):
    """Both kinds of calls in the same run, VM stopped."""

    @promise(
        in_turn(
            changed, identical, fails_with("EFAULT"), identical, fails_with("E2BIG"), identical, note=Note.NO_SLOWER
        ),
        calls=30,
    )
    def test_as_fast_as_identical(self, guest: Guest) -> None:
        """After KVM_RUN a call that is refused (feb627e8d6f6) or fails takes no longer than one that sets the same
        CPUID (c6617c61e8fe): KVM waits for nothing."""
        note_slowness(guest, Calls(CHANGED), Calls(bad="entries"), Calls(nent=TOO_MANY))


class Timers(PromiseTest):
    """A guest program has timers pending, and we send the guest no packet before they are due."""

    @promise(in_turn(changed, fails_with("EFAULT"), identical, note=Note.TIMERS_ON_TIME), calls=54)
    def test_vm_stopped(self, guest: Guest) -> None:
        """The guest's timers fire on time after calls while the VM is stopped, refused (feb627e8d6f6), failed or with
        the same CPUID (c6617c61e8fe): the pending timer of the local APIC stays."""
        note_timers(guest, *_on_both_vcpus())

    @promise(in_turn(changed, fails_with("EFAULT"), identical, note=Note.TIMERS_ON_TIME), calls=54)
    def test_vm_running(self, guest: Guest) -> None:
        """The guest's timers fire on time after the same calls by each vCPU's own thread between two KVM_RUNs
        (feb627e8d6f6, c6617c61e8fe)."""
        note_timers(guest, *_on_both_vcpus(), live=True)


class Beside(PromiseTest):
    """Thousands of calls on vCPU 1 while vCPU 0 runs."""

    @promise(in_turn(changed, identical, note=Note.TIMERS_ON_TIME), calls=18)
    def test_other_vcpu_runs(self, guest: Guest) -> None:
        """While one vCPU's own thread makes thousands of calls after KVM_RUN, refused (feb627e8d6f6) or with the same
        CPUID (c6617c61e8fe), the other vCPU is not held up: its timers fire on time."""
        note_timers(guest, Calls(CHANGED, vcpu=1), Calls(vcpu=1), times=IN_ROW, live=True, cpus=[0])


def _on_both_vcpus() -> list[Calls]:
    return [
        kind for vcpu in (0, 1) for kind in (Calls(CHANGED, vcpu), Calls(vcpu=vcpu, bad="entries"), Calls(vcpu=vcpu))
    ]
