"""What the hook is asked, as text; each request ends its line. tooling/hook/requests.c describes the protocol."""

from cpuidlab.kvm.cpuid import Entry, Model

MAX_LIVE_SECONDS = 60


def prefix(live: bool, seconds: float) -> str:
    """What stands before a request that waits so long for the vCPU's own thread."""
    return f"live {int(min(seconds, MAX_LIVE_SECONDS) * 1000)} " if live else ""


def setting(vcpu: int, model: Model | None, call: int, nent: int | None) -> str:
    """A set of a model, with as many zero entries behind it as `nent` counts more; None: a pointer that is not mapped.

    With `nent` that pointer's count is mapped, and the entries behind it are not.
    """
    if model is None:
        return f"badptr {vcpu} {call}{'' if nent is None else f' {nent}'}\n"
    count = len(model) if nent is None else nent
    entries = "".join(f"e {' '.join(f'{word:x}' for word in _words(entry, call))}\n" for entry in model)
    return f"set {vcpu} {call} {count} {len(model)}\n{entries}"


def _words(entry: Entry, call: int) -> tuple[int, ...]:
    """The entry as the call lays it out: struct kvm_cpuid_entry2, or struct kvm_cpuid_entry without index and flags."""
    registers = (entry.eax, entry.ebx, entry.ecx, entry.edx)
    if call == 2:
        return (entry.function, entry.index, entry.flags, *registers, *entry.padding)
    return (entry.function, *registers, entry.padding[0])
