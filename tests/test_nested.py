"""A vCPU that has run and is in the midst of a guest of its own (L2); asked of KVM without QEMU."""

from cpuidlab.testing import (
    BareVm,
    Note,
    PromiseTest,
    Stage,
    changed,
    enter_l2,
    identical,
    note_l2,
    noting,
    promise,
)


class Nested(PromiseTest):
    """L1 has executed VMRUN, and L2 writes to a port when the call comes. AMD SVM alone."""

    route = "bare"

    @promise(noting(identical, Note.L2_RUNS_ON), calls=1, stage=Stage.HOST_READY)
    def test_identical(self, vm: BareVm) -> None:
        """The same CPUID after KVM_RUN while L2 is active is the same (c6617c61e8fe), also where KVM refuses any change
        then (b47b93c15b12); L2 runs on."""
        vm.make_vcpu()
        enter_l2(vm)
        vm.set_cpuid()
        note_l2(vm)

    @promise(noting(changed, Note.L2_RUNS_ON), calls=1, stage=Stage.HOST_READY)
    def test_changed(self, vm: BareVm) -> None:
        """Another MAXPHYADDR after KVM_RUN while L2 is active, all memory below it: accepted or refused as without L2
        (feb627e8d6f6); L2 runs on."""
        vm.make_vcpu()
        enter_l2(vm)
        vm.set_cpuid("maxphyaddr=36")
        note_l2(vm)
