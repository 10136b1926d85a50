"""Leaves of other hypervisors in a CPUID, as VMMs give them to Windows and Xen guests; asked of KVM without QEMU."""

from cpuidlab.testing import BareVm, PromiseTest, Stage, changed, identical, promise, xen_leaves


class HypervisorLeaves(PromiseTest):
    """They are entries like any other, but that KVM reads some of them, and wrote into Xen's."""

    route = "bare"

    @promise(identical, calls=1, stage=Stage.HOST_READY)
    def test_hyperv_identical(self, vm: BareVm) -> None:
        """With Hyper-V's leaves, and KVM's own at 0x40000100, the same CPUID is the same after KVM_RUN
        (c6617c61e8fe)."""
        vm.add_hyperv_leaves()
        vm.make_vcpu()
        vm.run()
        vm.set_cpuid()

    @promise(changed, calls=1, stage=Stage.HOST_READY)
    def test_hyperv_changed(self, vm: BareVm) -> None:
        """A feature of Hyper-V's leaf 0x40000003 changed after KVM_RUN is a change like any other (feb627e8d6f6)."""
        vm.add_hyperv_leaves()
        vm.make_vcpu()
        vm.run()
        vm.set_cpuid("0x40000003.eax^0x1")

    @promise(changed, calls=1, stage=Stage.HOST_READY)
    def test_moved_kvm_leaf(self, vm: BareVm) -> None:
        """A feature of KVM's own leaf changed after KVM_RUN is a change like any other, where the leaf stands at
        0x40000101 too (feb627e8d6f6)."""
        vm.add_hyperv_leaves()
        vm.make_vcpu()
        vm.run()
        vm.set_cpuid("0x40000101.eax^0x40")

    @promise(xen_leaves, calls=1, stage=Stage.HOST_READY)
    def test_xen_identical(self, vm: BareVm) -> None:
        """With Xen's leaves the same CPUID is the same after KVM_RUN (c6617c61e8fe). From 6.3 on KVM writes the TSC's
        rate into the vCPU's copy (f422f853af03) and refuses the caller's; a2b00f85d783 ends that in 6.15."""
        vm.add_xen_leaves()
        vm.make_vcpu()
        vm.run()
        vm.set_cpuid()
