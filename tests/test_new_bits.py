"""Bits of CPUID that KVM has learnt of lately, asked of it without QEMU."""

from cpuidlab.testing import (
    BareVm,
    PromiseTest,
    Stage,
    changed,
    cpuid_faulting,
    identical,
    no_cpuid_faulting,
    promise,
)


class NewBits(PromiseTest):
    """Whether KVM knows a bit or not, after the first KVM_RUN it may not change."""

    route = "bare"

    @promise(identical, calls=1, stage=Stage.HOST_READY)
    def test_guest_maxphyaddr_identical(self, vm: BareVm) -> None:
        """With a GuestPhysAddrSize (0x80000008 EAX[23:16]) the same CPUID is the same after KVM_RUN (c6617c61e8fe)."""
        vm.change("guest_maxphyaddr=36")
        vm.make_vcpu()
        vm.run()
        vm.set_cpuid()

    @promise(changed, calls=1, stage=Stage.HOST_READY)
    def test_guest_maxphyaddr_changed(self, vm: BareVm) -> None:
        """Another GuestPhysAddrSize after KVM_RUN is a change like any other (feb627e8d6f6)."""
        vm.make_vcpu()
        vm.run()
        vm.set_cpuid("guest_maxphyaddr=36")

    @promise(cpuid_faulting, calls=1, stage=Stage.HOST_READY)
    def test_cpuid_faulting(self, vm: BareVm) -> None:
        """From 7.2 on the model's bit 0x80000021 EAX[17] lets a guest set HWCR[35] (e93a93f11490); to clear the bit
        after KVM_RUN is a change like any other (feb627e8d6f6)."""
        vm.add_cpuid_faulting(allowed=True)
        vm.make_vcpu()
        vm.allow_faulting()
        vm.run()
        vm.set_cpuid("cpuid_user_dis=off")

    @promise(no_cpuid_faulting, calls=1, stage=Stage.HOST_READY)
    def test_no_cpuid_faulting(self, vm: BareVm) -> None:
        """Without the model's bit 0x80000021 EAX[17] HWCR[35] is refused by every kernel (e93a93f11490); to set the
        bit after KVM_RUN is a change like any other (feb627e8d6f6)."""
        vm.add_cpuid_faulting(allowed=False)
        vm.make_vcpu()
        vm.allow_faulting()
        vm.run()
        vm.set_cpuid("cpuid_user_dis=on")
