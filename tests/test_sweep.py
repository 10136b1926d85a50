"""The mutability map: every bit of every register, one at a time, on one vCPU of a guest that has run."""

from cpuidlab.testing import Guest, PromiseTest, every_bit, promise, sweep_outcomes, sweep_summary


class EveryBit(PromiseTest):
    """Nothing hides between the named changes of the other tests."""

    @promise(every_bit)
    def test_flipped(self, guest: Guest) -> None:
        """Every bit flipped alone and every entry left out, after KVM_RUN: refused (feb627e8d6f6) but for the bits that
        KVM keeps itself, which change nothing (ee3a5f9e3d9b); or all taken but what kvm_check_cpuid refuses. The
        model is the old one after each, and the guest stays stable."""
        swept = guest.sweep(vcpu=0)
        guest.write_down(sweep_summary(swept))
        for outcome, bits in sweep_outcomes(swept).items():
            guest.write_down(f"{outcome}: {bits or 'nothing'}")
