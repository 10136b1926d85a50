"""A call that fails for its own reasons says so by its errno, and is no change: no line, no new model."""

from cpuidlab.testing import Guest, PromiseTest, fails_with, promise

IOCTLS = (1, 2)  # KVM_SET_CPUID, KVM_SET_CPUID2
TOO_MANY = 257  # KVM_MAX_CPUID_ENTRIES is 256 (arch/x86/include/asm/kvm_host.h)


class FailedCalls(PromiseTest):
    """Both ioctls, on vCPUs that have run."""

    @promise(fails_with("EFAULT"), calls=2)
    def test_bad_pointer(self, guest: Guest) -> None:
        """After KVM_RUN a pointer that is not mapped is EFAULT, silently, and the model stays."""
        for call in IOCTLS:
            guest.set_bad_pointer("maxphyaddr=36", vcpu=0, call=call)

    @promise(fails_with("EFAULT"), calls=2)
    def test_bad_entries(self, guest: Guest) -> None:
        """After KVM_RUN entries that cannot be read, behind a count that can, are EFAULT, silently, and the model
        stays."""
        for call in IOCTLS:
            guest.set_bad_entries("maxphyaddr=36", vcpu=0, call=call)

    @promise(fails_with("E2BIG"), calls=2)
    def test_too_many_entries(self, guest: Guest) -> None:
        """After KVM_RUN more entries than KVM_MAX_CPUID_ENTRIES are E2BIG, silently, and the model stays."""
        for call in IOCTLS:
            guest.set_cpuid("maxphyaddr=36", vcpus=[0], call=call, nent=TOO_MANY)

    @promise(fails_with("EINVAL"), calls=2)
    def test_virtual_address_width(self, guest: Guest) -> None:
        """After KVM_RUN a virtual-address width that is neither 0, 48 nor 57 is EINVAL in every era, silently, and the
        model stays (kvm_check_cpuid)."""
        guest.set_cpuid("vaddr_width=40")
