"""Before the first KVM_RUN a vCPU's CPUID belongs to userspace."""

from cpuidlab.testing import Guest, PromiseTest, Stage, never_run, promise, with_nested_state


class BeforeRun(PromiseTest):
    """The guest's vCPUs are made and have never entered the guest."""

    @promise(never_run, calls=10, stage=Stage.GUEST_HELD)
    def test_any_model_any_times(self, guest: Guest) -> None:
        """Before the first KVM_RUN any CPUID is accepted any number of times, silently, and read back as set, in
        every era (Documentation/virt/kvm/api.rst, KVM_SET_CPUID2)."""
        for change in ("maxphyaddr=36", "gbpages=off", "", "vendor=other", "maxphyaddr=32"):
            guest.set_cpuid(change)

    @promise(with_nested_state, calls=1, stage=Stage.GUEST_HELD)
    def test_with_nested_state(self, guest: Guest) -> None:
        """Before the first KVM_RUN a changed CPUID is refused while L2 is active, as after KVM_SET_NESTED_STATE in
        guest mode (b47b93c15b12); before that commit it is accepted. Either way silently."""
        guest.load_nested_state(vcpu=0)
        guest.set_cpuid("maxphyaddr=36", vcpus=[0])
