"""The freeze map: each call on a VM of its own, at each phase, on a stand-in for the program of bare VMs."""

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError
from cpuidlab.experiment import freeze_table
from cpuidlab.experiment.bare_kvm import BareKvm
from cpuidlab.experiment.freeze import FreezeMap, freeze_map
from cpuidlab.experiment.freeze_table import FreezeRead, calls
from fakebarevm import ARCH_CAPABILITIES, DE_CFG, UCODE_REV, FakeBareVm

FROZEN = {"boot_cpu_id": ("accepted", "EBUSY", "EBUSY"), "irqchip": ("accepted", "EINVAL", "EINVAL")}
ALL = (1 << 64) - 1


def mapped(fake: FakeBareVm) -> FreezeMap:
    return freeze_map(BareKvm(fake, Deadline.after(10)))


def test_each_call_is_tried_in_each_phase() -> None:
    answers = {**FROZEN, "irqchip_again": ("EEXIST",) * 3, "nr_mmu_pages": ("accepted", "accepted", "EINVAL")}
    assert {name: mapped(FakeBareVm(answers)).answers[name] for name in answers} == answers


def test_the_lab_itself_has_not_set_a_tss_before_the_try() -> None:
    answers = {**FROZEN, "tss_addr": ("accepted",) * 3}
    fake = FakeBareVm(answers)
    fake.capabilities = {4: 1}  # KVM_CAP_SET_TSS_ADDR
    assert mapped(fake).answers["tss_addr"] == ("accepted",) * 3


def test_only_root_tries_a_call_that_needs_a_right() -> None:
    answers = {**FROZEN, "nx_huge_pages": ("EPERM",) * 3}
    kvm = BareKvm(FakeBareVm(answers), Deadline.after(10))
    assert "nx_huge_pages" in mapped(FakeBareVm(answers)).answers
    assert "nx_huge_pages" not in freeze_map(kvm, is_root=False).answers


def test_a_call_whose_capability_is_missing_is_not_tried() -> None:
    found = mapped(FakeBareVm(FROZEN)).answers
    assert "max_vcpu_id" not in found  # needs KVM_CAP_MAX_VCPU_ID
    assert found["nr_mmu_pages"] == ("ENOTTY",) * 3  # needs none


def test_a_call_on_a_vcpu_is_not_tried_before_there_is_one() -> None:
    answers = {**FROZEN, "mce": ("EPERM", "accepted", "EBUSY")}
    assert mapped(FakeBareVm(answers)).answers["mce"] == ("-", "accepted", "EBUSY")


def test_what_is_accepted_without_effect_is_ignored() -> None:
    found = mapped(FakeBareVm({**FROZEN, "lapic_id": ("", "accepted", "accepted")}))
    assert found.answers["lapic_id"] == ("-", "ignored", "ignored")  # the fake's KVM_GET_LAPIC tells what was set last
    assert FreezeRead("KVM_GET_LAPIC", 8, 2, b"\x05").sees(b"\0\0\5\0")
    assert not FreezeRead("KVM_GET_LAPIC", 8, 2, b"\x05").sees(b"\0\5\0\0")


def test_the_bits_of_feature_msrs_before_and_after_the_first_run() -> None:
    found = {msr.index: msr for msr in mapped(FakeBareVm(FROZEN, frozen=(ARCH_CAPABILITIES, DE_CFG))).msrs}
    free, whole, one_bit = found[UCODE_REV], found[ARCH_CAPABILITIES], found[DE_CFG]
    assert (free.is_frozen, free.taken("not run"), free.taken("has run")) == (False, ALL, ALL)
    assert (whole.is_frozen, whole.value, whole.taken("not run"), whole.taken("has run")) == (True, 0b101, ALL, 0)
    assert whole.bits["has run"] == {"refused": ALL, "applied": 0, "ignored": 0, "other": 0}
    assert (one_bit.is_frozen, one_bit.taken("not run")) == (True, 2)
    assert all(msr.same == {"not run": True, "has run": True} for msr in found.values())


@pytest.mark.parametrize("nests", [None, False, True])
def test_the_bits_of_feature_msrs_while_l2_is_active(nests: bool | None) -> None:
    fake = FakeBareVm(FROZEN, frozen=(ARCH_CAPABILITIES,))
    fake.nests = nests
    found = {msr.index: msr for msr in mapped(fake).msrs}
    assert found[ARCH_CAPABILITIES].is_frozen_in_l2 is nests
    assert found[UCODE_REV].is_frozen_in_l2 is (None if nests is None else False)


def test_an_msr_that_takes_what_it_refuses_is_something_else() -> None:
    fake = FakeBareVm(FROZEN)
    fake.torn = ARCH_CAPABILITIES
    torn = next(msr for msr in mapped(fake).msrs if msr.index == ARCH_CAPABILITIES)
    assert torn.bits["not run"]["other"] == ALL
    assert torn.same == {"not run": False, "has run": False}


def test_a_vcpu_that_does_not_run_is_a_failure_of_the_lab() -> None:
    fake = FakeBareVm(FROZEN)
    fake.exit_reason = 17
    with pytest.raises(LabError, match="a vCPU did not run: KVM_RUN came back with INTERNAL_ERROR"):
        mapped(fake)


def test_the_table_can_be_read_and_names_what_it_has() -> None:
    known = calls()
    assert len(known) == len(freeze_table.rows()["call"])  # no name twice
    for call in known.values():
        assert all(known[name].on == "vm" and not known[name].first for name in call.first), call.name
