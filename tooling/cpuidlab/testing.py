"""What the author of a test in tests/ sees, and nothing else: one import beside the standard library.

A test states what it promises by `promise`, and does to its `Guest` what the promise is about, or to a `BareVm` where
no guest is needed. The judge then looks at everything by itself; what only the test can see it notes.
"""

from cpuidlab.avocado_plugin.base_test import PromiseTest, promise
from cpuidlab.experiment.bare_held import hold_chips, hold_registers
from cpuidlab.experiment.bare_l2 import enter_l2, note_l2
from cpuidlab.experiment.bare_rule import Rule
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.calls import Calls
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.guest_ops import (
    guest_reboot,
    note_osxsave,
    put_online,
    run_first_vcpu_only,
    send_init,
    send_nmi,
    set_breakpoint,
    set_osxsave,
    system_reset,
)
from cpuidlab.experiment.hotplug import bring_up, hot_add, replug, replug_offline
from cpuidlab.experiment.load import Load
from cpuidlab.experiment.memory import note_memory
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.experiment.page_probe import LastingReader, Page, PageReaders, add_memslot, drop_shadow_pages
from cpuidlab.experiment.slowness import note_slowness
from cpuidlab.experiment.takeover import take_over
from cpuidlab.experiment.ticks import note_timers
from cpuidlab.judge.bare_expectations import (
    cpuid_faulting,
    failed_entry,
    frozen_as_the_table_says,
    id_taken,
    in_force,
    kept,
    more_than_80_entries,
    no_cpuid_faulting,
    pv_unhalt,
    xen_leaves,
)
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
    in_turn,
    memory_kept,
    memory_out_of_reach,
    never_run,
    never_run_and_stable,
    no_fault,
    no_fault_released,
    noting,
    other_flags,
    replugged_while_pending,
    replugged_with_other_features,
    taken_over,
    taken_over_at_own_risk,
    taken_over_with_fault,
    taken_over_without_fault,
    taken_over_without_registers,
    untouched,
    with_nested_state,
)
from cpuidlab.report.freeze_text import unlike_the_table
from cpuidlab.report.sweep_text import outcomes as sweep_outcomes
from cpuidlab.report.sweep_text import summary as sweep_summary
from cpuidlab.rig.rig import Stage

__all__ = [
    "ACCEPTED",
    "BareVm",
    "Calls",
    "Guest",
    "LastingReader",
    "Load",
    "Note",
    "Page",
    "PageReaders",
    "PromiseTest",
    "Rule",
    "Stage",
    "add_memslot",
    "bring_up",
    "changed",
    "changed_and_put_back",
    "changed_at_own_risk",
    "changed_at_own_risk_under_load",
    "changed_in_bursts",
    "changed_under_load",
    "cpuid_faulting",
    "drop_shadow_pages",
    "enter_l2",
    "every_bit",
    "failed_entry",
    "fails_with",
    "fault_missed",
    "fault_missed_of_former_vendor",
    "fault_missed_with_new_rules",
    "fault_released",
    "frozen_as_the_table_says",
    "guest_reboot",
    "hold_chips",
    "hold_registers",
    "hot_add",
    "id_taken",
    "identical",
    "identical_while_pending",
    "in_force",
    "in_turn",
    "kept",
    "memory_kept",
    "memory_out_of_reach",
    "more_than_80_entries",
    "never_run",
    "never_run_and_stable",
    "no_cpuid_faulting",
    "no_fault",
    "no_fault_released",
    "note_l2",
    "note_memory",
    "note_osxsave",
    "note_slowness",
    "note_timers",
    "noting",
    "other_flags",
    "promise",
    "put_online",
    "pv_unhalt",
    "replug",
    "replug_offline",
    "replugged_while_pending",
    "replugged_with_other_features",
    "run_first_vcpu_only",
    "send_init",
    "send_nmi",
    "set_breakpoint",
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
    "unlike_the_table",
    "untouched",
    "with_nested_state",
    "xen_leaves",
]
