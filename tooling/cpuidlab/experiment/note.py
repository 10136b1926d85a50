"""What a test may note beside KVM's answers."""

from enum import StrEnum


class Note(StrEnum):
    """What a test noted beside KVM's answers; the values are those of matrix.json and observation.json.

    A test that looks twice notes twice: right after the change, and after KVM has dropped its shadow pages.
    """

    NO_FAULT = "no_fault"
    FAULT = "fault"
    MISSED_FAULT = "missed_fault"
    FAULT_OF_OLD_MAPPING = "fault_of_old_mapping"
    HARMLESS = "harmless"
    KILLED = "killed"
    LOAD_VERIFIED = "load_verified"
    LOAD_FAILED = "load_failed"
    OSXSAVE_STALE = "osxsave_stale"
    OSXSAVE_CLEARED = "osxsave_cleared"
    ID_TAKEN = "id_taken"  # KVM_CREATE_VCPU says that there is a vCPU of that id
    ID_FREE = "id_free"
    VALUE_TAKEN = "value_taken"  # of an MSR
    VALUE_REFUSED = "value_refused"
    AS_THE_TABLE_SAYS = "as_the_table_says"  # of tooling/freeze.toml
    UNLIKE_THE_TABLE = "unlike_the_table"
    ALL_REFUSED = "all_refused"  # every bit but those that KVM keeps itself
    ALL_TAKEN = "all_taken"  # every bit but those that KVM checks
    PARTLY_TAKEN = "partly_taken"  # a sweep that is neither
    REGISTERS_TAKEN = "registers_taken"  # by vCPUs that take over a guest's state
    REGISTERS_REFUSED = "registers_refused"
    REGISTERS_KEPT = "registers_kept"  # by calls on a vCPU, as KVM tells them
    REGISTERS_CHANGED = "registers_changed"
    L2_RUNS_ON = "l2_runs_on"  # a guest of the guest's own
    L2_ENDED = "l2_ended"
    GOES_BY_OLD = "goes_by_old"  # KVM, where a register's value depends on the CPUID
    GOES_BY_NEW = "goes_by_new"
    MEMORY_KEPT = "memory_kept"  # by thousands of calls
    MEMORY_LOST = "memory_lost"
    NO_SLOWER = "no_slower"  # than an identical call
    SLOWER = "slower"
    TIMERS_ON_TIME = "timers_on_time"  # those of the guest
    TIMERS_LATE = "timers_late"
