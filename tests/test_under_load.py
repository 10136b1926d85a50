"""A guest under load: what it notices of refused changes, and of two vCPUs that walk its pages by different rules."""

from cpuidlab.testing import (
    ACCEPTED,
    Guest,
    Load,
    PromiseTest,
    changed_at_own_risk_under_load,
    changed_under_load,
    promise,
)

ROUNDS = 100  # on two vCPUs each


class UnderLoad(PromiseTest):
    """The load verifies its own results; it must end well."""

    @promise(changed_under_load, calls=2 * ROUNDS)
    def test_many_changes(self, guest: Guest) -> None:
        """200 changes in a row, each by a vCPU's own thread between two KVM_RUNs, with verified load on both vCPUs:
        all refused, silently, and the guest notices nothing (feb627e8d6f6); or, where they are accepted, all applied,
        within the rate limit of the lines (63f5a1909f9e), and the guest still works."""
        load = Load(guest, seconds=6)
        for count in range(ROUNDS):
            guest.set_cpuid(f"maxphyaddr={36 + count % 2}", live=True)
        load.finish()

    @promise(changed_under_load, calls=1)
    def test_one_of_two_in_concert(self, guest: Guest) -> None:
        """MAXPHYADDR lowered to 36 on vCPU 1 alone while both walk the same pages under load: accepted, and as all RAM
        is below it nothing breaks, or refused (feb627e8d6f6)."""
        load = Load(guest, seconds=3)
        guest.set_cpuid("maxphyaddr=36", vcpus=[1], live=True)
        load.finish()

    @promise(changed_at_own_risk_under_load, calls=1, profile="highmem")
    def test_one_of_two_above_ram(self, guest: Guest) -> None:
        """MAXPHYADDR lowered to 32 on vCPU 1 alone, RAM above 4 GiB and both under load: accepted as the era says, and
        nobody promises what becomes of the guest, for vCPU 0 makes shadow pages by the old rules that vCPU 1 uses too;
        or refused (feb627e8d6f6), and the guest notices nothing."""
        load = Load(guest, seconds=3)
        if guest.set_cpuid("maxphyaddr=32", vcpus=[1], live=True) != ACCEPTED:
            load.finish()
