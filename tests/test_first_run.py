"""What counts as the first run, asked of KVM without QEMU: one VM, one vCPU, no guest that could take harm."""

from cpuidlab.testing import BareVm, PromiseTest, Stage, failed_entry, id_taken, never_run, promise


class FirstRun(PromiseTest):
    """A vCPU has run once vcpu_enter_guest() has come behind the entry (last_vmentry_cpu)."""

    route = "bare"

    @promise(never_run, calls=1, stage=Stage.HOST_READY)
    def test_immediate_exit(self, vm: BareVm) -> None:
        """KVM_RUN with immediate_exit comes back before the entry and does not count: another CPUID is accepted
        silently, in every era (KVM_CAP_IMMEDIATE_EXIT in Documentation/virt/kvm/api.rst)."""
        vm.make_vcpu()
        vm.run_not()
        vm.set_cpuid("maxphyaddr=36")

    @promise(failed_entry, calls=1, stage=Stage.HOST_READY)
    def test_failed_entry(self, vm: BareVm) -> None:
        """KVM_RUN whose entry the processor refuses (KVM_EXIT_FAIL_ENTRY) counts, though no instruction of the guest
        was executed: another CPUID is answered as after KVM_RUN (63f5a1909f9e, feb627e8d6f6)."""
        vm.make_vcpu()
        vm.fail_entry()
        vm.set_cpuid("maxphyaddr=36")

    @promise(id_taken, calls=1, stage=Stage.HOST_READY)
    def test_id_taken(self, vm: BareVm) -> None:
        """A VMM that has not kept the vCPU's file gets no new vCPU of that id: KVM_CREATE_VCPU is EEXIST until the VM
        ends, and the vCPU that is there has run (feb627e8d6f6)."""
        vm.make_vcpu()
        vm.run()
        vm.make_vcpu_again()
        vm.set_cpuid("maxphyaddr=36")
