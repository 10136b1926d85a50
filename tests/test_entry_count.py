"""How many entries a CPUID may have, asked of KVM without QEMU."""

from cpuidlab.testing import (
    BareVm,
    PromiseTest,
    Stage,
    fails_with,
    identical,
    more_than_80_entries,
    promise,
)


class EntryCount(PromiseTest):
    """KVM_MAX_CPUID_ENTRIES was 80, and is 256 from 5.10 on (3f4e3eb417b1)."""

    route = "bare"

    @promise(identical, calls=1, stage=Stage.HOST_READY)
    def test_80(self, vm: BareVm) -> None:
        """80 entries are accepted by every kernel, and are the same CPUID again after KVM_RUN (c6617c61e8fe)."""
        vm.fill(80)
        vm.make_vcpu()
        vm.run()
        vm.set_cpuid()

    @promise(more_than_80_entries, calls=1, stage=Stage.HOST_READY)
    def test_81(self, vm: BareVm) -> None:
        """81 entries are accepted before the first KVM_RUN, silently; before 5.10 they are E2BIG (3f4e3eb417b1)."""
        vm.make_vcpu()
        vm.set_cpuid(entries=81)

    @promise(more_than_80_entries, calls=1, stage=Stage.HOST_READY)
    def test_256(self, vm: BareVm) -> None:
        """256 entries are accepted before the first KVM_RUN, silently; before 5.10 they are E2BIG (3f4e3eb417b1)."""
        vm.make_vcpu()
        vm.set_cpuid(entries=256)

    @promise(fails_with("E2BIG", has_run=False), calls=1, stage=Stage.HOST_READY)
    def test_257(self, vm: BareVm) -> None:
        """257 entries are E2BIG in every kernel, before the first KVM_RUN too, and the model stays (3f4e3eb417b1)."""
        vm.make_vcpu()
        vm.set_cpuid(entries=257)
