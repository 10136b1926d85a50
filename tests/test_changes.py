"""What is changed, one thing at a time, on all vCPUs of a guest that uses it, with the VM stopped."""

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.judge.expectations import changed


class Changes(PromiseTest):
    """Accepted before 5.16 (with both lines from 63f5a1909f9e on), refused from feb627e8d6f6 on."""

    def test_gbpages_off(self) -> None:
        """GBPAGES cleared under a guest whose direct map has 1 GiB pages; it goes on, or is refused (feb627e8d6f6)."""
        self._change("gbpages=off", profile="highmem")

    def test_nx_off(self) -> None:
        """NX cleared under a guest that marks its pages no-execute: EFER.NX, which KVM goes by, stays set and the
        guest goes on; or refused (feb627e8d6f6)."""
        self._change("nx=off")

    def test_vendor_intel(self) -> None:
        """The vendor changed from AMD to Intel, in leaf 0x0 and 0x80000000 (feb627e8d6f6)."""
        self._change("vendor=intel")

    def test_sev_cbit(self) -> None:
        """The position of the SEV C-bit changed (feb627e8d6f6)."""
        self._change("sev_cbit=40")

    def test_la57_off(self) -> None:
        """LA57 cleared (feb627e8d6f6)."""
        self._change("la57=off")

    def test_pcid_off(self) -> None:
        """PCID cleared (feb627e8d6f6)."""
        self._change("pcid=off")

    def test_smep_off(self) -> None:
        """SMEP cleared under a guest that has it on (feb627e8d6f6)."""
        self._change("smep=off")

    def test_smap_off(self) -> None:
        """SMAP cleared under a guest that has it on (feb627e8d6f6)."""
        self._change("smap=off")

    def test_apic_id(self) -> None:
        """The initial APIC id changed: harmless to paging, and refused all the same (feb627e8d6f6)."""
        self._change("apicid")

    def test_topology(self) -> None:
        """The number of logical processors changed: harmless to paging, and refused all the same (feb627e8d6f6)."""
        self._change("topology")

    def test_hypervisor_off(self) -> None:
        """The bit that tells a guest of its hypervisor cleared: it was read at boot alone, and is refused all the same
        (feb627e8d6f6)."""
        self._change("hypervisor=off")

    def test_kvm_leaf(self) -> None:
        """A feature bit of KVM's own leaf 0x40000001 changed: refused as any other (feb627e8d6f6)."""
        self._change("kvm_leaf")

    def _change(self, name: str, profile: str = "small") -> None:
        with self.story(profile=profile) as story:
            story.set(name)
            self.conclude(story, changed(len(story.answers)))
