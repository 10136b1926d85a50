"""The route without a hook: a vCPU is unplugged with the guest's help and plugged in again, over QMP alone.

QEMU keeps the vCPU that it unplugged and uses it again (kvm_park_vcpu), so that KVM sees KVM_SET_CPUID2 on a vCPU that
has run. The hook only listens here.
"""

from cpuidlab.testing import (
    Guest,
    PromiseTest,
    bring_up,
    hot_add,
    identical,
    never_run_and_stable,
    promise,
    replug,
    replugged_with_other_features,
)


class Replug(PromiseTest):
    """QEMU tells a refusal only by ending with a general line; the hook's log names the ioctl and the errno."""

    route = "replug"

    @promise(identical, calls=1)
    def test_same_features(self, guest: Guest) -> None:
        """Unplugged and plugged in again with the same features: accepted wherever the era accepts the identical CPUID
        (c6617c61e8fe); the guest brings the CPU up again and stays stable."""
        vcpu = replug(guest, vcpu=1)
        if vcpu is not None:
            bring_up(guest, cpu=vcpu)

    @promise(replugged_with_other_features, calls=1)
    def test_other_features(self, guest: Guest) -> None:
        """Unplugged and plugged in again without GBPAGES: accepted, and the guest has two different CPUs and stays
        stable, or refused (feb627e8d6f6); it is QEMU that ends then, and takes the guest with it."""
        vcpu = replug(guest, vcpu=1, pdpe1gb=False)
        if vcpu is not None:
            bring_up(guest, cpu=vcpu)

    @promise(never_run_and_stable)
    def test_hot_add_other_features(self, guest: Guest) -> None:
        """A vCPU that never ran is plugged in without GBPAGES: accepted silently in every era, and the guest brings it
        up and stays stable."""
        vcpu = hot_add(guest, pdpe1gb=False)
        if vcpu is not None:
            bring_up(guest, cpu=vcpu)
