"""Has-run is a property of one vCPU, not of its VM."""

from cpuidlab.testing import (
    Guest,
    PromiseTest,
    Stage,
    bring_up,
    hot_add,
    never_run_and_stable,
    promise,
    run_first_vcpu_only,
)


class NeverRunSibling(PromiseTest):
    """last_vmentry_cpu, which 63f5a1909f9e and feb627e8d6f6 look at, belongs to the vCPU and begins as -1."""

    @promise(never_run_and_stable, calls=1, stage=Stage.GUEST_HELD)
    def test_vcpu_not_woken_yet(self, guest: Guest) -> None:
        """While vCPU 0 has run and vCPU 1 still waits for its first SIPI, vCPU 1 takes another CPUID silently in every
        era; the guest then boots with both and is stable."""
        run_first_vcpu_only(guest)
        guest.set_cpuid("gbpages=off", vcpus=[1])

    @promise(never_run_and_stable)
    def test_hot_added_vcpu(self, guest: Guest) -> None:
        """A vCPU that is hot-added to a running guest has never run: it takes another CPUID silently in every era,
        from QEMU when it is made and again from us; the guest brings it up and stays stable."""
        vcpu = hot_add(guest)
        if vcpu is not None:
            guest.set_cpuid("gbpages=off", vcpus=[vcpu])
            bring_up(guest, cpu=vcpu)
