"""Once a vCPU has run it has run: no reset makes it new."""

from cpuidlab.testing import Guest, PromiseTest, changed, guest_reboot, promise, put_online, send_init, system_reset


class HasRunStays(PromiseTest):
    """Nothing but vCPU creation sets last_vmentry_cpu to -1."""

    @promise(changed, calls=2)
    def test_after_system_reset(self, guest: Guest) -> None:
        """After a system reset of the VM a changed CPUID is still answered as after KVM_RUN: accepted or refused
        (feb627e8d6f6) as the era says; the guest boots again and is stable."""
        system_reset(guest)
        guest.set_cpuid("gbpages=off")  # a guest boots with it even where a broken kernel takes it on one vCPU alone

    @promise(changed, calls=2)
    def test_after_guest_reboot(self, guest: Guest) -> None:
        """After the guest has rebooted itself a changed CPUID is still answered as after KVM_RUN (feb627e8d6f6)."""
        guest_reboot(guest)
        guest.set_cpuid("gbpages=off")

    @promise(changed, calls=1)
    def test_after_init(self, guest: Guest) -> None:
        """After INIT, while the vCPU waits for SIPI, a changed CPUID of that vCPU is still answered as after KVM_RUN
        (feb627e8d6f6); SIPI brings it up again."""
        send_init(guest, cpu=1)
        guest.set_cpuid("hypervisor=off", vcpus=[1])  # a narrower CPU may kill a guest that brings it up
        put_online(guest, cpu=1)
