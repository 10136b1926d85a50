"""What kernels promise on a VM without QEMU, by era and by property."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED, Fate, Observation, VcpuAnswer
from cpuidlab.judge import bare_expectations
from cpuidlab.judge.discrepancies import ANY, Expectation, compare
from cpuidlab.judge.eras import Era, era, properties
from cpuidlab.judge.expectations import Promise, changed, identical
from cpuidlab.judge.prediction import of_release, predicted
from cpuidlab.judge.verdict import Verdict, judge
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.kvm.kmsg import Record


def kernel(name: str, **has: bool | None) -> Era:
    """A kernel of an era, with properties: `xen_tsc_refused=True`."""
    return replace(era(name), properties={key.replace("_", "-"): value for key, value in has.items()})


@pytest.mark.parametrize(
    ("more", "expected"),
    [(True, Expectation(ACCEPTED, model="asked", guest=None)),
     (False, Expectation("E2BIG", model="before", guest=None)),
     (None, Expectation(ANY))],
)  # fmt: skip
def test_more_than_80_entries(more: bool | None, expected: Expectation) -> None:
    assert bare_expectations.more_than_80_entries(kernel("silent", entries_256=more)) == expected


def test_an_id_that_is_taken_beside_a_change_of_its_vcpu() -> None:
    for name in ("silent", "warn", "forbid-changed"):
        assert bare_expectations.id_taken(era(name)) == replace(changed(era(name)), notes=(Note.ID_TAKEN,))


def test_a_model_is_in_force_where_it_is_accepted() -> None:
    for name, note in (("silent", Note.GOES_BY_NEW), ("warn", Note.GOES_BY_NEW), ("forbid-all", Note.GOES_BY_OLD),
                       ("forbid-changed", Note.GOES_BY_OLD)):  # fmt: skip
        assert bare_expectations.in_force(era(name)) == replace(changed(era(name)), notes=(note,))


def test_xens_leaves_are_refused_where_kvm_has_edited_them() -> None:
    refused = Expectation("EINVAL", model="asked", defect=True)
    assert bare_expectations.xen_leaves(kernel("forbid-changed", xen_tsc_refused=True)) == refused
    for one in (kernel("forbid-changed", xen_tsc_refused=False), kernel("warn", xen_tsc_refused=False)):
        assert bare_expectations.xen_leaves(one) == identical(one)
    assert bare_expectations.xen_leaves(kernel("forbid-changed", xen_tsc_refused=None)) == Expectation(ANY)


@pytest.mark.parametrize(("follows", "note"), [(True, Note.VALUE_TAKEN), (False, Note.VALUE_REFUSED)])
def test_cpuid_faulting_follows_the_models_bit(follows: bool, note: Note) -> None:
    assert bare_expectations.cpuid_faulting(kernel("silent", cpuid_faulting=follows)).notes == (note,)
    assert bare_expectations.no_cpuid_faulting(kernel("silent", cpuid_faulting=follows)).notes == (Note.VALUE_REFUSED,)
    assert bare_expectations.cpuid_faulting(kernel("silent", cpuid_faulting=None)).notes is None


@pytest.mark.parametrize(
    ("promise", "line"),
    [
        (bare_expectations.failed_entry, "SVM: set kvm_amd.dump_invalid_vmcb=1 to dump internal KVM state."),
        (bare_expectations.failed_entry, "kvm_intel: set kvm_intel.dump_invalid_vmcs=1 to dump internal KVM state."),
        (bare_expectations.cpuid_faulting,
         "kvm [152]: vcpu0, guest rIP: 0xfff0 unimplemented HWCR wrmsr: 0x800000000"),
        (bare_expectations.no_cpuid_faulting,
         "kvm: kvm [152]: vcpu0, guest rIP: 0xfff0 Unhandled WRMSR(0xc0010015) = 0x800000000"),
    ],
)  # fmt: skip
def test_what_a_test_itself_makes_the_host_log_breaks_no_silence(promise: Promise, line: str) -> None:
    expectation = replace(promise(kernel("silent", cpuid_faulting=False)), notes=None, guest=None)
    assert compare(expectation, seen("accepted", line)).broken == ()
    assert compare(replace(expectation, own_lines=""), seen("accepted", line)).broken != ()
    assert compare(expectation, seen("accepted", "kvm: something else")).broken != ()


def seen(answer: str, *lines: str) -> Observation:
    log = tuple(Record(4, 0, at, 0.0, line) for at, line in enumerate(lines))
    return Observation((VcpuAnswer(0, answer),), "asked", log, None, Fate(alive=True))


@pytest.mark.parametrize("answer", ["accepted", "EINVAL", "E2BIG"])
def test_any_answer_is_as_promised_where_nobody_knows(answer: str) -> None:
    expectation = Expectation(ANY, calls=1, guest=None)
    assert compare(expectation, seen(answer)).broken == ()
    assert compare(replace(expectation, calls=2), seen(answer)).unseen != ()


def test_a_prediction_brings_the_properties_of_its_kernel() -> None:
    assert era("silent").has("entries-256") is None  # of no kernel
    assert of_release("5.9.16", "5.9.16-1").properties["entries-256"] is False
    old = SimpleNamespace(spec="5.10", release="5.10.0-46-cloud-amd64", version="5.10.262-1")
    found = predicted(cast(Kernel, old)).era
    assert found and found.has("entries-256") is True
    assert {each.name for each in properties()} == set(of_release("6.1.9", "6.1.9").properties)


def test_another_era_explains_nothing_by_a_property_that_the_kernel_lacks() -> None:
    def promise(of: Era) -> Expectation:
        return replace(bare_expectations.more_than_80_entries(of), guest=None, model=None)

    old, new = kernel("forbid-changed", entries_256=True), era("forbid-changed-l2")
    assert judge(promise, old, new, seen("E2BIG"), promise="", rerun="").verdict is Verdict.FAIL


def test_a_bit_that_kvm_keeps_is_accepted_without_effect() -> None:
    for name in ("silent", "warn", "forbid-all", "forbid-changed"):
        assert bare_expectations.kept(era(name)) == replace(identical(era(name)), model="before")


def test_pv_unhalt_is_refused_by_kernels_that_compare_and_do_not_clear_it_at_first() -> None:
    refused = Expectation("EINVAL", model="asked", defect=True)
    assert bare_expectations.pv_unhalt(kernel("forbid-changed", pv_unhalt_at_first_set=False)) == refused
    for one in (kernel("forbid-changed", pv_unhalt_at_first_set=True), kernel("warn", pv_unhalt_at_first_set=False)):
        assert bare_expectations.pv_unhalt(one) == identical(one)
    assert bare_expectations.pv_unhalt(era("forbid-changed")) == Expectation(ANY)
