"""What KVM keeps beside the CPUID, and what it lets into registers by the CPUID in force; asked of it without QEMU."""

from cpuidlab.testing import (
    BareVm,
    Note,
    PromiseTest,
    Rule,
    Stage,
    changed,
    fails_with,
    hold_chips,
    hold_registers,
    identical,
    in_force,
    noting,
    promise,
)


class Kept(PromiseTest):
    """XCR0 and enabled breakpoints, which no guest of this lab can have, and the VM's own devices."""

    route = "bare"

    @promise(noting(changed, Note.REGISTERS_KEPT), calls=1, stage=Stage.HOST_READY)
    def test_changed(self, vm: BareVm) -> None:
        """Another MAXPHYADDR after KVM_RUN leaves XCR0 and the debug registers as they are, whether the change is
        accepted or refused (feb627e8d6f6)."""
        vm.make_vcpu()
        vm.run()
        registers = hold_registers(vm)
        vm.set_cpuid("maxphyaddr=36")
        registers.note()

    @promise(noting(identical, Note.REGISTERS_KEPT), calls=1, stage=Stage.HOST_READY)
    def test_identical(self, vm: BareVm) -> None:
        """The same CPUID after KVM_RUN leaves XCR0 and the debug registers as they are (c6617c61e8fe)."""
        vm.make_vcpu()
        vm.run()
        registers = hold_registers(vm)
        vm.set_cpuid()
        registers.note()

    @promise(noting(fails_with("EINVAL"), Note.REGISTERS_KEPT), calls=1, stage=Stage.HOST_READY)
    def test_failed(self, vm: BareVm) -> None:
        """A CPUID that kvm_check_cpuid refuses in every era leaves XCR0 and the debug registers as they are after
        KVM_RUN."""
        vm.make_vcpu()
        vm.run()
        registers = hold_registers(vm)
        vm.set_cpuid("vaddr_width=40")
        registers.note()

    @promise(noting(changed, Note.REGISTERS_KEPT), calls=1, stage=Stage.HOST_READY)
    def test_chips_changed(self, vm: BareVm) -> None:
        """Another MAXPHYADDR after KVM_RUN leaves the VM's PICs, IOAPIC and PIT as they are, whether the change is
        accepted or refused (feb627e8d6f6)."""
        vm.add_chips()
        vm.make_vcpu()
        vm.run()
        chips = hold_chips(vm)
        vm.set_cpuid("maxphyaddr=36")
        chips.note()

    @promise(noting(identical, Note.REGISTERS_KEPT), calls=1, stage=Stage.HOST_READY)
    def test_chips_identical(self, vm: BareVm) -> None:
        """The same CPUID after KVM_RUN leaves the VM's PICs, IOAPIC and PIT as they are (c6617c61e8fe)."""
        vm.add_chips()
        vm.make_vcpu()
        vm.run()
        chips = hold_chips(vm)
        vm.set_cpuid()
        chips.note()


class InForce(PromiseTest):
    """A refused CPUID is in force nowhere: KVM_SET_SREGS is answered by the old one."""

    route = "bare"

    @promise(in_force, calls=1, stage=Stage.HOST_READY)
    def test_smep_off(self, vm: BareVm) -> None:
        """After KVM_RUN and a CPUID without SMEP, CR4.SMEP is refused where KVM has accepted that CPUID, and taken
        where it has refused it (feb627e8d6f6)."""
        vm.make_vcpu()
        Rule.CR4_SMEP.begin(vm)
        vm.run()
        vm.set_cpuid("smep=off")
        Rule.CR4_SMEP.note(vm)

    @promise(in_force, calls=1, stage=Stage.HOST_READY)
    def test_maxphyaddr_36(self, vm: BareVm) -> None:
        """After KVM_RUN and a MAXPHYADDR of 36, a CR3 with bit 38 is refused where KVM has accepted that CPUID, and
        taken where it has refused it (feb627e8d6f6)."""
        vm.make_vcpu()
        Rule.CR3_BIT_38.begin(vm)
        vm.run()
        vm.set_cpuid("maxphyaddr=36")
        Rule.CR3_BIT_38.note(vm)
