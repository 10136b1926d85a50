"""KVM_SET_CPUID, the ioctl before KVM_SET_CPUID2, is held to the same promise."""

from cpuidlab.testing import ACCEPTED, Guest, PromiseTest, Stage, changed_and_put_back, never_run, promise


class OldIoctl(PromiseTest):
    """It carries neither index nor flags, so that it never equals a model that has some (kvm_vcpu_ioctl_set_cpuid)."""

    @promise(never_run, calls=4, stage=Stage.GUEST_HELD)
    def test_before_run(self, guest: Guest) -> None:
        """Before the first KVM_RUN, KVM_SET_CPUID is accepted silently in every era."""
        guest.set_cpuid("maxphyaddr=36", call=1)
        guest.set_cpuid("maxphyaddr=36")

    @promise(changed_and_put_back)
    def test_after_run(self, guest: Guest) -> None:
        """After KVM_RUN, KVM_SET_CPUID with the very same leaves is a changed CPUID, since index and flags are lost:
        accepted or refused as the era says (63f5a1909f9e, feb627e8d6f6); where it is accepted the first model is put
        back by KVM_SET_CPUID2, and the guest stays stable."""
        if guest.set_cpuid(call=1) == ACCEPTED:
            guest.set_cpuid()
