"""Bits that KVM keeps itself only where a VMM has set up the VM so; asked of KVM without QEMU."""

from cpuidlab.testing import BareVm, PromiseTest, Stage, kept, promise, pv_unhalt


class KeptBits(PromiseTest):
    """KVM overwrites them in every CPUID that it gets, before it compares (ee3a5f9e3d9b)."""

    route = "bare"

    @promise(kept, calls=1, stage=Stage.HOST_READY)
    def test_mwait(self, vm: BareVm) -> None:
        """Without the quirk MISC_ENABLE_NO_MWAIT the bit MONITOR/MWAIT follows IA32_MISC_ENABLE: a CPUID with the other
        value is accepted after KVM_RUN, and changes nothing (ee3a5f9e3d9b)."""
        vm.let_mwait_follow_misc_enable()
        vm.make_vcpu()
        vm.run()
        vm.set_cpuid("monitor=on")

    @promise(pv_unhalt, calls=1, stage=Stage.HOST_READY)
    def test_pv_unhalt(self, vm: BareVm) -> None:
        """Where the guest executes HLT by itself KVM clears KVM_FEATURE_PV_UNHALT, and the caller's own CPUID with the
        bit is the same after KVM_RUN. Before 6.9 KVM does not clear it in the first CPUID, for it does not know yet
        where its own leaves are, and refuses that CPUID later (92e82cf632e8, 4736d85f0d18)."""
        vm.disable_exits("hlt")
        vm.make_vcpu()
        vm.run()
        vm.set_cpuid()
