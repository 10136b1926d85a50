"""The mutability map: every bit of every register, one at a time, on one vCPU of a guest that has run."""

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.judge.expectations import every_bit
from cpuidlab.report.sweep_text import outcomes, summary


class EveryBit(PromiseTest):
    """Nothing hides between the named changes of the other tests."""

    def test_flipped(self) -> None:
        """Every bit flipped alone and every entry left out, after KVM_RUN: refused (feb627e8d6f6) but for the bits that
        KVM keeps itself, which change nothing (ee3a5f9e3d9b); or all taken but what kvm_check_cpuid refuses. The
        model is the old one after each, and the guest stays stable."""
        with self.story() as story:
            found = story.sweep(0)
            story.notes.append(summary(found))
            story.readings += [f"{outcome}: {bits or 'nothing'}" for outcome, bits in outcomes(found).items()]
            self.conclude(story, every_bit(found.counts.accepted + found.counts.restored))
