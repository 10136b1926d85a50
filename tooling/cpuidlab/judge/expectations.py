"""What each era promises in each situation: small named functions, which tests hand to the judge.

All calls are made on vCPUs that have run, where a function does not say otherwise.
"""

from collections.abc import Callable
from dataclasses import replace

from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.judge.discrepancies import Expectation
from cpuidlab.judge.eras import Era
from cpuidlab.kvm.warning import RATE_LIMIT_BURST

Promise = Callable[[Era], Expectation]


def untouched(_: Era) -> Expectation:
    """Nothing is set: silence, and a stable guest."""
    return Expectation(answer=None, model="asked")


# vCPUs that have not run


def never_run(_: Era) -> Expectation:
    """A vCPU that has not run takes any model, silently, in every era. The guest is on its own with the model."""
    return Expectation(answer=ACCEPTED, model="asked", guest=None)


def never_run_and_stable(_: Era) -> Expectation:
    """A vCPU that has not run takes a model that the guest can live with."""
    return Expectation(answer=ACCEPTED, model="asked")


def with_nested_state(era: Era) -> Expectation:
    """Another model for a vCPU that has not run and has nested state loaded; the vCPU is not let run."""
    return Expectation(era.nested, model="asked" if era.nested == ACCEPTED else "before", guest=None)


# vCPUs that take over the state of a guest that ran on vCPUs of another model


def taken_over(_: Era) -> Expectation:
    """New vCPUs of a model that the guest can live with."""
    return Expectation(answer=ACCEPTED, notes=(Note.REGISTERS_TAKEN,), model="asked")


def taken_over_with_fault(_: Era) -> Expectation:
    """New vCPUs to which a page-table entry of the guest's is reserved, where KVM goes by the guest's CPUID."""
    return Expectation(answer=ACCEPTED, notes=(Note.REGISTERS_TAKEN, Note.FAULT), model="asked")


def taken_over_without_fault(_: Era) -> Expectation:
    """As `taken_over_with_fault` where the processor walks the guest's page tables, and goes by the host's CPUID."""
    return Expectation(answer=ACCEPTED, notes=(Note.REGISTERS_TAKEN, Note.NO_FAULT), model="asked")


def taken_over_without_registers(_: Era) -> Expectation:
    """New vCPUs that cannot have a control register of the guest's: KVM_SET_SREGS is EINVAL, not the CPUID."""
    return Expectation(answer=ACCEPTED, notes=(Note.REGISTERS_REFUSED,), model="asked", guest=None)


def taken_over_at_own_risk(_: Era) -> Expectation:
    """New vCPUs of which KVM versions differ in whether they can have the guest's registers."""
    return Expectation(answer=ACCEPTED, model="asked", guest=None)


# the same CPUID


def identical(era: Era) -> Expectation:
    """The model that the vCPU has is set again."""
    return Expectation(era.identical, warns=era.lines, model="asked")


def identical_while_pending(era: Era) -> Expectation:
    """As `identical`, while KVM has yet to clear OSXSAVE.

    A refusal is the era's defect and leaves OSXSAVE as it was; the guest is not let boot with it.
    """
    if era.defect and era.pending != era.identical:
        return Expectation(era.pending, notes=(Note.OSXSAVE_STALE,), guest=None, defect=True)
    return Expectation(era.pending, warns=era.lines, notes=(Note.OSXSAVE_CLEARED,), model="asked")


def replugged_while_pending(era: Era) -> Expectation:
    """As `identical`, by QEMU for a vCPU that it plugs in twice; the second time KVM has yet to clear OSXSAVE.

    Where KVM refuses it is for QEMU to say what becomes of the guest.
    """
    if era.defect and era.pending != era.identical:
        return Expectation((era.identical, era.pending), guest=None, defect=True)
    return identical(era)


# another CPUID


def changed(era: Era) -> Expectation:
    """Another model that the guest can live with; further calls may put the old model back where KVM accepts."""
    return Expectation(era.changed, warns=era.lines, model="asked" if _accepts(era) else "before")


def changed_and_put_back(era: Era) -> Expectation:
    """Another model, and the old model again where KVM accepts the other one: at the end KVM reports the old model."""
    return replace(changed(era), model="asked")


def changed_at_own_risk(era: Era) -> Expectation:
    """Another model, and nobody promises what becomes of the guest where KVM accepts it.

    So it is with a MAXPHYADDR below the guest's memory where the processor walks the guest's page tables (NPT, EPT): it
    goes by its own MAXPHYADDR and finds no reserved bit. KVM goes by the guest's only where it walks them itself, for
    instance to decode an instruction. How often it does that differs between versions and processors.
    """
    return replace(changed(era), guest=None if _accepts(era) else "stable")


def memory_out_of_reach(era: Era) -> Expectation:
    """A MAXPHYADDR below memory that a Linux guest uses for its page tables, with shadow paging: the guest dies, or it
    lives on with damage; which of the two nobody promises.

    The guest's new programs get page tables from the upper end of memory. KVM gives #GP when the guest loads CR3 with
    an address that has a bit from its MAXPHYADDR on (kvm_set_cr3(), d1cd3ce90044), and #PF with the reserved bit when
    KVM's own walk meets such an entry (is_rsvd_bits_set() in paging_tmpl.h). KVM makes each shadow page by that walk,
    so only pages that were mapped before stay readable. The walk goes by the new MAXPHYADDR also where CPUID updates do
    not initialize the MMU anew (49c6f8756cdf), as in 5.10, for MAXPHYADDR is part of the MMU's role there
    (de3ccd26fafc). Where it was not yet (from 7dcd57552008 on, 4.20) the check of CR3 suffices.
    KVM_CAP_SMALLER_MAXPHYADDR of kvm_amd says the same: 1 with shadow paging, 0 with NPT.
    """
    return replace(changed(era), guest="suffers" if _accepts(era) else "stable")


def changed_in_bursts(era: Era) -> Expectation:
    """More changes at once than the rate limit of the lines lets through, and another change after its interval."""
    return replace(changed(era), limited=RATE_LIMIT_BURST + 1 if era.lines else None)


def every_bit(era: Era) -> Expectation:
    """A sweep of one vCPU: the calls are the hook's and no answers of the test's own; the old model is put back."""
    note = Note.ALL_TAKEN if _accepts(era) else Note.ALL_REFUSED
    return Expectation(answer=None, warns=era.lines, notes=(note,), model="asked")


def replugged_with_other_features(era: Era) -> Expectation:
    """QEMU sets another model on a vCPU that it plugs in again. Where KVM refuses it is for QEMU to say what becomes of
    the guest (7.2 to 10.0 end: kvm_init_vcpu() with error_fatal)."""
    return changed(era) if _accepts(era) else replace(changed(era), guest=None)


def other_flags(era: Era) -> Expectation:
    """A model whose flags alone differ, and the first one again where it was accepted. Linux 5.16.3 does not compare
    flags: it accepts the model without effect (mended in 811f95ff9527)."""
    if era.flags == era.changed:
        return changed(era)
    return Expectation(era.flags, model="asked", defect=era.defect)


def fails_with(errno: str, *, has_run: bool = True) -> Promise:
    """A call that fails for its own reasons, with `errno`; the era that forbids all calls looks at has-run first
    (feb627e8d6f6). A vCPU that has not run is not let run."""

    def expect(era: Era) -> Expectation:
        forbids_all = has_run and era.identical != ACCEPTED
        answer = era.changed if forbids_all else errno
        return Expectation(answer, model="before", guest="stable" if has_run else None)

    return expect


# what calls cost: the host's memory, time, the guest's timers


def noting(kind: Promise, *notes: Note) -> Promise:
    """As `kind`, and this is what the test itself notes."""

    def expect(era: Era) -> Expectation:
        return replace(kind(era), notes=notes)

    return expect


def in_turn(*kinds: Promise, note: Note) -> Promise:
    """Calls of these kinds in turn, again and again, the last accepted one with the model from before."""

    def expect(era: Era) -> Expectation:
        parts = [kind(era) for kind in kinds]
        answers = tuple(part.answer for part in parts if isinstance(part.answer, str))
        return Expectation(answers, warns=any(part.warns for part in parts), model="asked", notes=(note,))

    return expect


def memory_kept(kind: Promise) -> Promise:
    """Calls on vCPUs that have run lose no memory; but 5.16.3 loses each model that it accepts then (mended in
    5c89be1dd5cf)."""

    def expect(era: Era) -> Expectation:
        due = kind(era)
        if era.leaks and due.answer == ACCEPTED:
            return replace(due, notes=(Note.MEMORY_LOST,), defect=True)
        return replace(due, notes=(Note.MEMORY_KEPT,))

    return expect


# under load


def changed_under_load(era: Era) -> Expectation:
    """As `changed`, and the load in the guest verifies its results to its end."""
    return replace(changed(era), notes=(Note.LOAD_VERIFIED,))


def changed_at_own_risk_under_load(era: Era) -> Expectation:
    """As `changed_at_own_risk`; where KVM refuses, the load verifies its results to its end."""
    return changed_at_own_risk(era) if _accepts(era) else changed_under_load(era)


# shadow pages that outlive a change: what a guest notes right after it, and after KVM has dropped its shadow pages


def no_fault(era: Era) -> Expectation:
    """With NPT the hardware walks the guest's page tables by the host's rules, and sees no fault."""
    return replace(changed(era), notes=(Note.NO_FAULT, Note.NO_FAULT))


def fault_missed_with_new_rules(era: Era) -> Expectation:
    """A fault is missed where the change is accepted and the MMU takes over its rules (49c6f8756cdf).

    Where nobody knows whether the kernel has that commit, nothing is promised of faults.
    """
    if _accepts(era) and era.reinit is None:
        return changed(era)
    return fault_missed(era) if era.reinit else no_fault(era)


def fault_missed(era: Era) -> Expectation:
    """A fault is missed where the change is accepted, until KVM drops its shadow pages."""
    return replace(changed(era), notes=(Note.MISSED_FAULT, Note.FAULT)) if _accepts(era) else no_fault(era)


def fault_missed_of_former_vendor(era: Era) -> Expectation:
    """A page is mapped under another vendor's rules, where KVM accepts that vendor and takes over its rules. Where
    nobody knows whether the rules are taken over, nothing is promised of faults."""
    if _accepts(era) and era.reinit is None:
        return changed(era)
    missed = _accepts(era) and era.reinit
    notes = (Note.MISSED_FAULT, Note.FAULT) if missed else (Note.FAULT, Note.FAULT)
    return replace(changed(era), notes=notes)


def no_fault_released(era: Era) -> Expectation:
    """The guest's kernel goes on to use a mapping."""
    return replace(changed(era), notes=(Note.HARMLESS, Note.HARMLESS))


def fault_released(era: Era) -> Expectation:
    """The guest's kernel uses a mapping that a change with new MMU rules (49c6f8756cdf) has made faulty; the fault
    shows when KVM drops its shadow pages. Where nobody knows whether the kernel has the new rules, nothing is promised
    of the fault."""
    if _accepts(era) and era.reinit is None:
        return replace(changed(era), guest=None)
    if not (_accepts(era) and era.reinit):
        return no_fault_released(era)
    return replace(changed(era), notes=(Note.HARMLESS, Note.KILLED), guest="harmed")


def _accepts(era: Era) -> bool:
    return era.changed == ACCEPTED
