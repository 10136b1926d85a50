"""What each kernel promises where no guest is needed to see it: tests on a VM without QEMU.

What differs between versions of one era is a property of eras.toml. Where nobody knows whether a kernel has it, any
answer is as promised.
"""

from dataclasses import replace

from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.judge.discrepancies import ANY, Expectation
from cpuidlab.judge.eras import Era
from cpuidlab.judge.expectations import changed, fails_with, identical, never_run

# dump_vmcb() in svm.c, dump_vmcs() in vmx.c
_INVALID_STATE = (
    r"(kvm_amd: |kvm_intel: |SVM: |kvm: )*set kvm_(amd|intel)\.dump_invalid_vmc[bs]=1 to dump internal KVM state"
)
_UNKNOWN_HWCR = r"(kvm: )?kvm \[\d+\]: vcpu0, guest rIP: \S+ (unimplemented HWCR wrmsr|Unhandled WRMSR\(0xc0010015\))"


def id_taken(era: Era) -> Expectation:
    """KVM_CREATE_VCPU with the id of a vCPU that has run, and another model for that vCPU."""
    return replace(changed(era), notes=(Note.ID_TAKEN,))


def more_than_80_entries(era: Era) -> Expectation:
    """A model of 81 to 256 entries for a vCPU that has not run: KVM_MAX_CPUID_ENTRIES was 80 (3f4e3eb417b1)."""
    more = era.has("entries-256")
    if more is None:
        return Expectation(ANY)
    return never_run(era) if more else fails_with("E2BIG", has_run=False)(era)


def xen_leaves(era: Era) -> Expectation:
    """The same model again, with Xen's TSC leaves. KVM writes the rate into the vCPU's own copy (f422f853af03), and
    finds the caller's to be another one; until a2b00f85d783."""
    edits = era.has("xen-tsc-refused")
    if edits is None:
        return Expectation(ANY)
    if edits and era.identical == ACCEPTED and era.changed != ACCEPTED:
        return Expectation(era.changed, model="asked", defect=True)
    return identical(era)


def in_force(era: Era) -> Expectation:
    """Another model, and what KVM does by the model in force: by the new one where it accepts that, else by the old."""
    note = Note.GOES_BY_NEW if era.changed == ACCEPTED else Note.GOES_BY_OLD
    return replace(changed(era), notes=(note,))


def failed_entry(era: Era) -> Expectation:
    """Another model after a KVM_RUN that the processor refused, of which the host's log tells."""
    return replace(changed(era), own_lines=_INVALID_STATE)


def cpuid_faulting(era: Era) -> Expectation:
    """Whether HWCR[35] is taken follows the model's bit (e93a93f11490), and another model is another model. Before that
    commit no bit helps, and KVM logs the value that it does not know."""
    follows = era.has("cpuid-faulting")
    notes = {True: (Note.VALUE_TAKEN,), False: (Note.VALUE_REFUSED,), None: None}[follows]
    return replace(changed(era), notes=notes, own_lines=_UNKNOWN_HWCR)


def no_cpuid_faulting(era: Era) -> Expectation:
    """Without the model's bit HWCR[35] is refused in every kernel."""
    return replace(changed(era), notes=(Note.VALUE_REFUSED,), own_lines=_UNKNOWN_HWCR)


def frozen_as_the_table_says(_: Era) -> Expectation:
    """Each call of tooling/freeze.toml is answered as its rules say for the kernel's version, and logs nothing."""
    return Expectation(answer=None, notes=(Note.AS_THE_TABLE_SAYS,), model="asked")


def kept(era: Era) -> Expectation:
    """Another value of a bit that KVM keeps itself: no change, and no effect."""
    return replace(identical(era), model="before")


def pv_unhalt(era: Era) -> Expectation:
    """The same model again, with the bit that KVM clears where the guest executes HLT by itself.

    Kernels that compare refuse it where the bit was not cleared in the first model too.
    """
    at_once = era.has("pv-unhalt-at-first-set")
    if at_once is None:
        return Expectation(ANY)
    if era.identical == ACCEPTED and era.changed != ACCEPTED and not at_once:
        return Expectation(era.changed, model="asked", defect=True)
    return identical(era)
