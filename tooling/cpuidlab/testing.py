"""What the author of a test in tests/ sees, and nothing else: one import beside the standard library.

A test states what it promises by `promise`, and does to its `Guest` what the promise is about. The judge then looks at
everything by itself; what only the test can see it notes.
"""

from cpuidlab.avocado_plugin.base_test import PromiseTest, promise
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.guest_ops import (
    bring_up,
    guest_reboot,
    hot_add,
    note_osxsave,
    put_online,
    replug,
    run_first_vcpu_only,
    send_init,
    set_osxsave,
    system_reset,
)
from cpuidlab.experiment.load import Load
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.experiment.page_probe import LastingReader, Page, PageReaders, add_memslot, drop_shadow_pages
from cpuidlab.experiment.takeover import take_over
from cpuidlab.judge.expectations import (
    changed,
    changed_and_put_back,
    changed_at_own_risk,
    changed_at_own_risk_under_load,
    changed_in_bursts,
    changed_under_load,
    every_bit,
    fails_with,
    fault_missed,
    fault_missed_of_former_vendor,
    fault_missed_with_new_rules,
    fault_released,
    identical,
    identical_while_pending,
    memory_out_of_reach,
    never_run,
    never_run_and_stable,
    no_fault,
    no_fault_released,
    other_flags,
    replugged_with_other_features,
    taken_over,
    taken_over_at_own_risk,
    taken_over_with_fault,
    taken_over_without_fault,
    taken_over_without_registers,
    untouched,
    with_nested_state,
)
from cpuidlab.report.sweep_text import outcomes as sweep_outcomes
from cpuidlab.report.sweep_text import summary as sweep_summary
from cpuidlab.rig.rig import Stage

__all__ = [
    "ACCEPTED",
    "Guest",
    "LastingReader",
    "Load",
    "Note",
    "Page",
    "PageReaders",
    "PromiseTest",
    "Stage",
    "add_memslot",
    "bring_up",
    "changed",
    "changed_and_put_back",
    "changed_at_own_risk",
    "changed_at_own_risk_under_load",
    "changed_in_bursts",
    "changed_under_load",
    "drop_shadow_pages",
    "every_bit",
    "fails_with",
    "fault_missed",
    "fault_missed_of_former_vendor",
    "fault_missed_with_new_rules",
    "fault_released",
    "guest_reboot",
    "hot_add",
    "identical",
    "identical_while_pending",
    "memory_out_of_reach",
    "never_run",
    "never_run_and_stable",
    "no_fault",
    "no_fault_released",
    "note_osxsave",
    "other_flags",
    "promise",
    "put_online",
    "replug",
    "replugged_with_other_features",
    "run_first_vcpu_only",
    "send_init",
    "set_osxsave",
    "sweep_outcomes",
    "sweep_summary",
    "system_reset",
    "take_over",
    "taken_over",
    "taken_over_at_own_risk",
    "taken_over_with_fault",
    "taken_over_without_fault",
    "taken_over_without_registers",
    "untouched",
    "with_nested_state",
]
