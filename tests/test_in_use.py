"""What a guest has in its debug registers, or is about to take, when the call comes. Most guests have neither."""

from cpuidlab.testing import Guest, PromiseTest, changed, identical, promise, send_nmi, set_breakpoint


class InUse(PromiseTest):
    """With the VM stopped, after KVM_RUN."""

    @promise(changed, calls=2)
    def test_breakpoint(self, guest: Guest) -> None:
        """A changed CPUID under a guest with the address of a breakpoint in DR0 of every CPU: its debug registers stay,
        whether the change is accepted or refused (feb627e8d6f6)."""
        set_breakpoint(guest)
        guest.set_cpuid("maxphyaddr=36")

    @promise(changed, calls=2)
    def test_nmi(self, guest: Guest) -> None:
        """A changed CPUID while an NMI is pending: the NMI stays pending, whether the change is accepted or refused
        (feb627e8d6f6)."""
        send_nmi(guest)
        guest.set_cpuid("maxphyaddr=36")

    @promise(identical, calls=2)
    def test_nmi_identical(self, guest: Guest) -> None:
        """The identical CPUID while an NMI is pending: the NMI stays pending (c6617c61e8fe)."""
        send_nmi(guest)
        guest.set_cpuid()
