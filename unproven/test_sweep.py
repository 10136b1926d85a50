"""The mutability map: every bit of every register, one at a time, on one vCPU of a guest that has run."""

from cpuidlab.eras import Era
from cpuidlab.observation import ACCEPTED
from cpuidlab.promise import PromiseTest
from cpuidlab.sweepwords import REFUSES, TAKES, outcomes, summary
from cpuidlab.verdict import Expectation


class EveryBit(PromiseTest):
    """Nothing hides between the named changes of the other tests."""

    def test_flipped(self) -> None:
        """Every bit flipped alone and every entry left out, after KVM_RUN: refused (feb627e8d6f6) but for the bits that
        KVM keeps itself, which change nothing (ee3a5f9e3d9b); or all taken but what kvm_check_cpuid refuses. The
        model is the old one after each, and the guest stays stable."""
        with self.story() as story:
            found = story.sweep(0)
            story.notes.append(summary(found))
            story.readings += [f"{outcome}: {text or 'nothing'}" for outcome, text in outcomes(found).items()]
            sets = found.counts.accepted + found.counts.restored

            def expect(era: Era) -> Expectation:
                takes = era.changed == ACCEPTED
                lines = sets if takes and era.lines else 0
                return Expectation(answer=None, lines=lines, notes=(TAKES if takes else REFUSES,), model="asked")

            self.conclude(story, expect)
