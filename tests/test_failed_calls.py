"""A call that fails for its own reasons says so by its errno, and is no change: no line, no new model."""

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.judge.eras import Era
from cpuidlab.judge.expectations import Promise
from cpuidlab.judge.verdict import Expectation

TOO_MANY = 257  # KVM_MAX_CPUID_ENTRIES is 256 (arch/x86/include/asm/kvm_host.h)


def fails(errno: str) -> Promise:
    """`errno` in every era; only the era that forbids all calls looks at has-run first (feb627e8d6f6)."""

    def expect(era: Era) -> Expectation:
        return Expectation(answer=era.changed if era.identical != ACCEPTED else errno, model="before")

    return expect


class FailedCalls(PromiseTest):
    """Both ioctls, on vCPUs that have run."""

    def test_bad_pointer(self) -> None:
        """After KVM_RUN a pointer that is not mapped is EFAULT, silently, and the model stays."""
        with self.story() as story:
            story.ask("maxphyaddr=36")
            for call in (1, 2):
                story.note(0, story.rig.hook.set_bad_pointer(0, call))
            self.conclude(story, fails("EFAULT"))

    def test_bad_entries(self) -> None:
        """After KVM_RUN entries that cannot be read, behind a count that can, are EFAULT, silently, and the model
        stays."""
        with self.story() as story:
            story.ask("maxphyaddr=36")
            for call in (1, 2):
                story.note(0, story.rig.hook.set_bad_pointer(0, call, nent=len(story.before[0])))
            self.conclude(story, fails("EFAULT"))

    def test_too_many_entries(self) -> None:
        """After KVM_RUN more entries than KVM_MAX_CPUID_ENTRIES are E2BIG, silently, and the model stays."""
        with self.story() as story:
            story.ask("maxphyaddr=36")
            for call in (1, 2):
                story.note(0, story.rig.hook.set(0, story.asked[0], call, nent=TOO_MANY))
            self.conclude(story, fails("E2BIG"))

    def test_virtual_address_width(self) -> None:
        """After KVM_RUN a virtual-address width that is neither 0, 48 nor 57 is EINVAL in every era, silently, and the
        model stays (kvm_check_cpuid)."""
        with self.story() as story:
            story.set("vaddr_width=40")
            self.conclude(story, fails("EINVAL"))
