"""What is changed, one thing at a time, on all vCPUs of a guest that uses it, with the VM stopped."""

from cpuidlab.testing import Guest, PromiseTest, changed, promise


class Changes(PromiseTest):
    """Accepted before 5.16 (with both lines from 63f5a1909f9e on), refused from feb627e8d6f6 on."""

    @promise(changed, calls=2, profile="highmem")
    def test_gbpages_off(self, guest: Guest) -> None:
        """GBPAGES cleared under a guest whose direct map has 1 GiB pages; it goes on, or is refused (feb627e8d6f6)."""
        guest.set_cpuid("gbpages=off")

    @promise(changed, calls=2)
    def test_nx_off(self, guest: Guest) -> None:
        """NX cleared under a guest that marks its pages no-execute: EFER.NX, which KVM goes by, stays set and the
        guest goes on; or refused (feb627e8d6f6)."""
        guest.set_cpuid("nx=off")

    @promise(changed, calls=2)
    def test_vendor_intel(self, guest: Guest) -> None:
        """The vendor changed from AMD to Intel, in leaf 0x0 and 0x80000000 (feb627e8d6f6)."""
        guest.set_cpuid("vendor=intel")

    @promise(changed, calls=2)
    def test_sev_cbit(self, guest: Guest) -> None:
        """The position of the SEV C-bit changed (feb627e8d6f6)."""
        guest.set_cpuid("sev_cbit=40")

    @promise(changed, calls=2)
    def test_la57_off(self, guest: Guest) -> None:
        """LA57 cleared (feb627e8d6f6)."""
        guest.set_cpuid("la57=off")

    @promise(changed, calls=2)
    def test_pcid_off(self, guest: Guest) -> None:
        """PCID cleared (feb627e8d6f6)."""
        guest.set_cpuid("pcid=off")

    @promise(changed, calls=2)
    def test_smep_off(self, guest: Guest) -> None:
        """SMEP cleared under a guest that has it on (feb627e8d6f6)."""
        guest.set_cpuid("smep=off")

    @promise(changed, calls=2)
    def test_smap_off(self, guest: Guest) -> None:
        """SMAP cleared under a guest that has it on (feb627e8d6f6)."""
        guest.set_cpuid("smap=off")

    @promise(changed, calls=2)
    def test_apic_id(self, guest: Guest) -> None:
        """The initial APIC id changed: harmless to paging, and refused all the same (feb627e8d6f6)."""
        guest.set_cpuid("apicid")

    @promise(changed, calls=2)
    def test_topology(self, guest: Guest) -> None:
        """The number of logical processors changed: harmless to paging, and refused all the same (feb627e8d6f6)."""
        guest.set_cpuid("topology")

    @promise(changed, calls=2)
    def test_hypervisor_off(self, guest: Guest) -> None:
        """The bit that tells a guest of its hypervisor cleared: it was read at boot alone, and is refused all the same
        (feb627e8d6f6)."""
        guest.set_cpuid("hypervisor=off")

    @promise(changed, calls=2)
    def test_kvm_leaf(self, guest: Guest) -> None:
        """A feature bit of KVM's own leaf 0x40000001 changed: refused as any other (feb627e8d6f6)."""
        guest.set_cpuid("kvm_leaf")
