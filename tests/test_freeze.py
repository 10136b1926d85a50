"""What else a first vCPU and a first KVM_RUN freeze: calls of KVM, each tried on a VM of its own without QEMU."""

from cpuidlab.testing import (
    BareVm,
    Note,
    PromiseTest,
    Stage,
    frozen_as_the_table_says,
    promise,
    unlike_the_table,
)


class Freeze(PromiseTest):
    """The rules, with their commits, are in tooling/freeze.toml."""

    route = "bare"

    @promise(frozen_as_the_table_says, stage=Stage.HOST_READY)
    def test_as_the_table_says(self, vm: BareVm) -> None:
        """What may be changed before the first vCPU, before its first KVM_RUN and after it is what the kernel's version
        says, for each call and for each bit of each feature MSR (0094f62c7eaa, 04cd8f8628d8, dcbe5a466c12 and the
        others of tooling/freeze.toml)."""
        lines = unlike_the_table(vm.freeze(), vm.kernel.release, vm.kernel.version)
        vm.write_down(*lines)
        vm.note(Note.UNLIKE_THE_TABLE if lines else Note.AS_THE_TABLE_SAYS)
