"""CPUID models as KVM keeps them: entries, named fields, a text form, differences. Pure data."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.kvm.fields import FIELDS, REGISTERS, Register, leaf_name

SIGNIFICANT_INDEX = 1  # KVM_CPUID_FLAG_SIGNIFCANT_INDEX (sic) of <linux/kvm.h>: the entry is for this subleaf only
STATEFUL = 2  # KVM_CPUID_FLAG_STATEFUL_FUNC


@dataclass(frozen=True)
class Entry:
    """One struct kvm_cpuid_entry2; all values are unsigned 32-bit words."""

    function: int
    index: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int
    padding: tuple[int, int, int] = (0, 0, 0)

    def register(self, name: Register) -> int:
        """Return the value of one of the four registers."""
        return {"eax": self.eax, "ebx": self.ebx, "ecx": self.ecx, "edx": self.edx}[name]

    def with_register(self, name: Register, value: int) -> "Entry":
        """Return the same entry with another value in one register."""
        eax, ebx, ecx, edx = (value if name == each else self.register(each) for each in REGISTERS)
        return replace(self, eax=eax, ebx=ebx, ecx=ecx, edx=edx)

    def answers(self, leaf: int, subleaf: int) -> bool:
        """Return whether this entry is for CPUID with EAX=leaf and ECX=subleaf (cpuid_entry2_find in KVM's cpuid.c)."""
        return self.function == leaf and (self.index == subleaf or not self.flags & SIGNIFICANT_INDEX)


Model = tuple[Entry, ...]


def find(model: Model, leaf: int, subleaf: int) -> Entry | None:
    """Return the first entry for that leaf and subleaf, as KVM does; None where there is none."""
    return next((entry for entry in model if entry.answers(leaf, subleaf)), None)


def get_field(model: Model, name: str) -> int | None:
    """Return the value of a field of FIELDS, None where the model does not have the leaf."""
    field = FIELDS[name]
    entry = find(model, field.leaf, field.subleaf)
    return None if entry is None else field.of(entry.register(field.register))


def with_field(model: Model, name: str, value: int) -> Model:
    """Return the model with another value in a field.

    Raises UsageError where the model does not have the leaf, or the field is too small for the value.
    """
    field = FIELDS[name]
    largest = field.mask >> field.low
    if not 0 <= value <= largest:
        raise UsageError(f"{name}={value} does not fit: {field.where()} holds 0 to {largest}")
    entry = find(model, field.leaf, field.subleaf)
    if entry is None:
        raise UsageError(f"this CPU model has no {name}: {leaf_name(field.leaf, field.subleaf)} is missing")
    word = entry.register(field.register) & ~field.mask | value << field.low
    at = model.index(entry)
    return (*model[:at], entry.with_register(field.register, word), *model[at + 1 :])


def to_text(model: Model) -> str:
    """Return the model as text, one entry a line in KVM's order. `from_text` reads the text back."""
    return "".join(f"{_entry_line(entry)}\n" for entry in model)


def _entry_line(entry: Entry) -> str:
    registers = " ".join(f"{name}=0x{entry.register(name):08x}" for name in REGISTERS)
    padding = " padding=" + ",".join(f"0x{word:x}" for word in entry.padding) if any(entry.padding) else ""
    return f"0x{entry.function:08x} 0x{entry.index:02x} {registers} flags=0x{entry.flags:x}{padding}"


_HEX = "0x([0-9a-f]{1,8})"
_LINE = re.compile(
    f"{_HEX} {_HEX} eax={_HEX} ebx={_HEX} ecx={_HEX} edx={_HEX} flags={_HEX}(?: padding={_HEX},{_HEX},{_HEX})?"
)


def from_text(text: str) -> Model:
    """Read the text that `to_text` wrote. Raises LabError with the first line that is not an entry."""
    return tuple(_entry_from(line) for line in text.splitlines())


def _entry_from(line: str) -> Entry:
    match = _LINE.fullmatch(line)
    if match is None:
        raise LabError(f"not a CPUID entry: {line!r}")
    function, index, eax, ebx, ecx, edx, flags, *padding = (int(word or "0", 16) for word in match.groups())
    return Entry(function, index, flags, eax, ebx, ecx, edx, (padding[0], padding[1], padding[2]))


def diff(before: Model, after: Model) -> tuple[str, ...]:
    """Return each difference as a readable line; nothing where the models are equal."""
    old, new = _keyed(before), _keyed(after)
    lines = [f"{_key_name(key)}: removed" for key in old if key not in new]
    lines += [f"{_key_name(key)}: added: {_entry_line(new[key])}" for key in new if key not in old]
    for key in old:
        if key in new:
            lines += _entry_diff(_key_name(key), old[key], new[key])
    if [key for key in old if key in new] != [key for key in new if key in old]:
        lines.append("the entries are in another order")
    return tuple(lines)


_Key = tuple[int, int, int]  # function, index, how many entries with the same two came before


def _keyed(model: Model) -> dict[_Key, Entry]:
    keyed: dict[_Key, Entry] = {}
    for entry in model:
        count = 0
        while (entry.function, entry.index, count) in keyed:
            count += 1
        keyed[entry.function, entry.index, count] = entry
    return keyed


def _key_name(key: _Key) -> str:
    return leaf_name(key[0], key[1]) + (f" (entry {key[2] + 1} of that leaf)" if key[2] else "")


def _entry_diff(name: str, old: Entry, new: Entry) -> Iterable[str]:
    for register in REGISTERS:
        a, b = old.register(register), new.register(register)
        if a != b:
            yield f"{name} {register.upper()}: 0x{a:08x} -> 0x{b:08x}{named_changes(old, register, a, b)}"
    if old.flags != new.flags:
        yield f"{name} flags: 0x{old.flags:x} -> 0x{new.flags:x}"
    if old.padding != new.padding:
        yield f"{name} padding: {old.padding} -> {new.padding}"


def named_changes(entry: Entry, register: Register, old: int, new: int) -> str:
    """Return the named fields that differ, such as ` (maxphyaddr 40 -> 36)`; "" where no field has a name."""
    changed = [
        f"{field.name} {field.of(old)} -> {field.of(new)}"
        for field in FIELDS.values()
        if entry.answers(field.leaf, field.subleaf) and field.register == register and (old ^ new) & field.mask
    ]
    return f" ({', '.join(changed)})" if changed else ""
