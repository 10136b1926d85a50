"""What counts as the same CPUID: position by position, function, index, flags and four registers."""

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.judge.expectations import changed, identical


class Identical(PromiseTest):
    """kvm_cpuid_check_equal() of c6617c61e8fe, mended by ee3a5f9e3d9b."""

    def test_twice(self) -> None:
        """The same CPUID may be set again and again after KVM_RUN (c6617c61e8fe)."""
        with self.story() as story:
            for _ in range(3):
                story.set()
            self.conclude(story, identical(len(story.answers)))

    def test_after_get(self) -> None:
        """What KVM_GET_CPUID2 has just told may be set again after KVM_RUN (c6617c61e8fe)."""
        with self.story() as story:
            for vcpu in story.vcpus:
                story.note(vcpu, story.rig.hook.set(vcpu, story.rig.hook.get(vcpu)))
            self.conclude(story, identical(len(story.answers)))

    def test_padding(self) -> None:
        """Padding is not compared: the same CPUID with other padding is the same after KVM_RUN (c6617c61e8fe)."""
        with self.story() as story:
            story.set("padding")
            story.asked = dict(story.before)  # KVM does not give padding back
            self.conclude(story, identical(len(story.answers)))

    def test_runtime_bits(self) -> None:
        """The bits that KVM keeps itself (OSXSAVE, APIC, OSPKE, sizes of leaf 0xD) are overwritten before the
        comparison: flipped ones are accepted after KVM_RUN and change nothing (ee3a5f9e3d9b)."""
        with self.story() as story:
            story.set("runtime_bits")
            story.asked = dict(story.before)
            self.conclude(story, identical(len(story.answers)))


class NotIdentical(PromiseTest):
    """The same leaves in another shape are a changed CPUID; where it is accepted the first one is put back."""

    def test_reordered(self) -> None:
        """Two entries that have changed places are a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        self._shape("reordered")

    def test_one_more(self) -> None:
        """One more entry, all zero, is a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        self._shape("one_more")

    def test_one_less(self) -> None:
        """One entry less is a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        self._shape("one_less")

    def test_none(self) -> None:
        """No entries at all are a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        self._shape("empty")

    def test_function(self) -> None:
        """Another leaf number of one entry is a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        self._shape("function")

    def test_index(self) -> None:
        """Another subleaf number of one entry is a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        self._shape("index")

    def test_flags(self) -> None:
        """Other flags of one entry are a changed CPUID after KVM_RUN (c6617c61e8fe)."""
        self._shape("flags")

    def _shape(self, name: str) -> None:
        with self.story() as story:
            if story.set(name) == ACCEPTED:
                story.set()
            self.conclude(story, changed(len(story.answers)))
