"""What counts as the same CPUID: position by position, function, index, flags and four registers."""

from cpuidlab.testing import ACCEPTED, Guest, PromiseTest, changed, identical, other_flags, promise


class Identical(PromiseTest):
    """kvm_cpuid_check_equal() of c6617c61e8fe, mended by ee3a5f9e3d9b."""

    @promise(identical, calls=6)
    def test_twice(self, guest: Guest) -> None:
        """The same CPUID may be set again and again after KVM_RUN (c6617c61e8fe)."""
        for _ in range(3):
            guest.set_cpuid()

    @promise(identical, calls=2)
    def test_after_get(self, guest: Guest) -> None:
        """What KVM_GET_CPUID2 has just told may be set again after KVM_RUN (c6617c61e8fe)."""
        guest.set_cpuid_just_read()

    @promise(identical, calls=2)
    def test_padding(self, guest: Guest) -> None:
        """Padding is not compared: the same CPUID with other padding is the same after KVM_RUN (c6617c61e8fe)."""
        guest.set_cpuid("padding")

    @promise(identical, calls=2)
    def test_runtime_bits(self, guest: Guest) -> None:
        """The bits that KVM keeps itself (OSXSAVE, APIC, OSPKE, sizes of leaf 0xD) are overwritten before the
        comparison: flipped ones are accepted after KVM_RUN and change nothing (ee3a5f9e3d9b)."""
        guest.set_cpuid("runtime_bits")


class NotIdentical(PromiseTest):
    """The same leaves in another shape are a changed CPUID; where it is accepted the first one is put back."""

    @promise(changed)
    def test_reordered(self, guest: Guest) -> None:
        """Two entries that have changed places are a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        _set_and_put_back(guest, "reordered")

    @promise(changed)
    def test_one_more(self, guest: Guest) -> None:
        """One more entry, all zero, is a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        _set_and_put_back(guest, "one_more")

    @promise(changed)
    def test_one_less(self, guest: Guest) -> None:
        """One entry less is a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        _set_and_put_back(guest, "one_less")

    @promise(changed)
    def test_none(self, guest: Guest) -> None:
        """No entries at all are a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        _set_and_put_back(guest, "empty")

    @promise(changed)
    def test_function(self, guest: Guest) -> None:
        """Another leaf number of one entry is a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        _set_and_put_back(guest, "function")

    @promise(changed)
    def test_index(self, guest: Guest) -> None:
        """Another subleaf number of one entry is a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        _set_and_put_back(guest, "index")

    @promise(other_flags)
    def test_flags(self, guest: Guest) -> None:
        """Other flags of one entry are a changed CPUID after KVM_RUN (c6617c61e8fe); 5.16.3 and 5.16.4 do not compare
        them (mended in 811f95ff9527)."""
        _set_and_put_back(guest, "flags")


def _set_and_put_back(guest: Guest, shape: str) -> None:
    if guest.set_cpuid(shape) == ACCEPTED:
        guest.set_cpuid()
