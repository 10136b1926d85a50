"""What a guest's CPUs see by the CPUID instruction, compared with the model that KVM reports for the vCPU."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cpuidlab.base.errors import LabError
from cpuidlab.kvm.cpuid import SIGNIFICANT_INDEX, Entry, Model, find, named_changes
from cpuidlab.kvm.fields import REGISTERS, Register, leaf_name

Seen = Mapping[tuple[int, int], Entry]  # (leaf, subleaf) -> registers

_CPU = re.compile(r"CPU (\d+):")
_HEX = "0x([0-9a-f]{1,8})"
_LEAF = re.compile(rf"\s+{_HEX} {_HEX}: eax={_HEX} ebx={_HEX} ecx={_HEX} edx={_HEX}")


@dataclass(frozen=True)
class Ignored:
    """Bits of one register that may differ between KVM's model and the instruction, and why."""

    leaf: int
    subleaf: int
    register: Register
    mask: int
    why: str


# The APIC id (leaf 0x1, 0xb, 0x8000001e) is not here: each vCPU has its own model and KVM passes it on as it is.
IGNORED = (
    Ignored(0x1, 0, "ecx", 1 << 27, "OSXSAVE follows CR4"),
    Ignored(0x1, 0, "edx", 1 << 9, "APIC follows APIC_BASE"),
    Ignored(0x7, 0, "ecx", 1 << 4, "OSPKE follows CR4"),
    Ignored(0x7, 0, "ebx", 1 << 4 | 1 << 11, "HLE and RTM can be hidden by MSR TSX_CTRL"),
    Ignored(0xD, 0, "ebx", 0xFFFFFFFF, "the size follows XCR0"),
    Ignored(0xD, 1, "ebx", 0xFFFFFFFF, "the size follows XCR0 and XSS"),
)
_TOPOLOGY = (0xB, 0x1F)  # a subleaf that the model lacks is not zero: KVM fills in the level and the APIC id
_CLASSES = (0x0, 0x80000000)  # EAX of the first leaf of a class is its highest
_LONGEST = 0x40  # leaves of a class that a guest is asked for, whatever highest leaf a changed model tells


def to_ask(models: Iterable[Model]) -> tuple[str, ...]:
    """What a guest must read so that it can be compared with any of these models: all that they hold and, as a leaf
    that is missing must read as zero, all leaves in their range. The words are those of guests/guest/health.c."""
    pairs = {(entry.function, entry.index) for model in models for entry in model}
    for function, highest in {(entry.function, entry.eax) for model in models for entry in model}:
        if function in _CLASSES:
            pairs |= {(leaf, 0) for leaf in range(function, min(highest, function + _LONGEST) + 1)}
    return tuple(f"{leaf:x}.{subleaf:x}" for leaf, subleaf in sorted(pairs))


def parse_seen(text: str) -> dict[int, Seen]:
    """Read what the health program prints of CPUID: number of the guest's CPU -> what it sees.

    Raises LabError on a line that does not belong there, on a CPU without leaves and where there is no CPU at all.
    """
    cpus: dict[int, dict[tuple[int, int], Entry]] = {}
    current: dict[tuple[int, int], Entry] | None = None
    for line in text.splitlines():
        if cpu := _CPU.fullmatch(line.strip()):
            current = cpus.setdefault(int(cpu[1]), {})
        elif (leaf := _LEAF.fullmatch(line.rstrip())) and current is not None:
            function, index, eax, ebx, ecx, edx = (int(word, 16) for word in leaf.groups())
            current[function, index] = Entry(function, index, SIGNIFICANT_INDEX, eax, ebx, ecx, edx)
        elif line.strip():
            raise LabError(f"the guest's CPUID has a line that is not a leaf: {line.strip()!r}", evidence=text)
    if not cpus or not all(cpus.values()):
        raise LabError("the guest's CPUID has no leaves", evidence=text)
    return dict(cpus)


def seen_differs(model: Model, seen: Seen) -> tuple[str, ...]:
    """Where a guest's CPU sees something else than KVM's model for its vCPU says; one readable line each.

    A leaf that the model lacks reads as zero if it is within its class's range. Beyond it KVM's answer depends on the
    vendor; nothing is said of that. Bits of IGNORED are not compared.
    """
    missing = [
        entry for entry in model if _in_range(model, entry.function) and (entry.function, entry.index) not in seen
    ]
    lines = [
        f"{leaf_name(entry.function, entry.index)}: KVM's model has it, the guest did not read it" for entry in missing
    ]
    compared = 0
    for (leaf, subleaf), regs in sorted(seen.items()):
        entry = find(model, leaf, subleaf)
        if entry is None and (leaf in _TOPOLOGY or not _in_range(model, leaf)):
            continue
        compared += 1
        lines += _differences(entry or Entry(leaf, subleaf, 0, 0, 0, 0, 0), regs)
    if not compared:
        lines.append("nothing was compared: the guest's CPUID and KVM's model have no leaf in common")
    return tuple(lines)


def _in_range(model: Model, leaf: int) -> bool:
    first = find(model, leaf & 0x80000000, 0) if leaf & 0xFFFF0000 in _CLASSES else None
    return first is not None and leaf <= first.eax


def _differences(entry: Entry, seen: Entry) -> Iterable[str]:
    for register in REGISTERS:
        kept = 0xFFFFFFFF
        for ignored in IGNORED:
            if (ignored.leaf, ignored.subleaf, ignored.register) == (seen.function, seen.index, register):
                kept &= ~ignored.mask
        model_word, guest_word = entry.register(register), seen.register(register)
        if (model_word ^ guest_word) & kept:
            names = named_changes(seen, register, model_word & kept, guest_word & kept)
            where = f"{leaf_name(seen.function, seen.index)} {register.upper()}"
            yield f"{where}: KVM reports 0x{model_word:08x}, the guest sees 0x{guest_word:08x}{names}"
