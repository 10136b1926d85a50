"""Which CPUID is in force, on a stand-in for the host's program."""

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.experiment.bare_rule import Rule
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.note import Note
from fakerig import FakeRig

CR4_SMEP, CR3_BIT_38 = {"cr4": 1 << 20}, {"cr3": 1 << 38}


def made(rig: FakeRig) -> BareVm:
    vm = BareVm(rig.as_rig())
    vm.make_vcpu()
    vm.run()
    return vm


@pytest.mark.parametrize(
    ("rule", "bits", "change"), [(Rule.CR4_SMEP, CR4_SMEP, "smep=off"), (Rule.CR3_BIT_38, CR3_BIT_38, "maxphyaddr=36")]
)
@pytest.mark.parametrize("new", [True, False])
def test_by_which_cpuid_kvm_goes(rule: Rule, bits: dict[str, int], change: str, new: bool) -> None:
    rig = FakeRig()
    vm = made(rig)
    rule.begin(vm)
    assert not any(rig.bare.sregs)  # put back
    rig.bare.on_set_cpuid = lambda: rig.bare.reserved.update(bits if new else {})
    vm.set_cpuid(change)
    rule.note(vm)
    said = f"KVM_SET_SREGS with {rule.words} is {'EINVAL' if new else 'accepted'}"
    assert vm.notes == [Note.GOES_BY_NEW if new else Note.GOES_BY_OLD]
    assert vm.observe().figures == (said,)


def test_a_register_that_is_refused_from_the_start_shows_nothing() -> None:
    rig = FakeRig()
    vm = made(rig)
    rig.bare.reserved = CR4_SMEP
    with pytest.raises(LabError, match=r"refuses CR4\.SMEP by the first CPUID already"):
        Rule.CR4_SMEP.begin(vm)


def test_long_mode_is_entered_for_cr3_alone() -> None:
    rig = FakeRig()
    vm = made(rig)
    rig.bare.reserved = {"efer": 0x500}
    Rule.CR4_SMEP.begin(vm)
    with pytest.raises(LabError, match="refuses bit 38 of CR3"):
        Rule.CR3_BIT_38.begin(vm)
