"""Changes of any named field and of any register: `guest_maxphyaddr=40`, `pku=on`, `0x40000003.0.eax^0x1`."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from cpuidlab.base.errors import UsageError
from cpuidlab.kvm.cpuid import Model, find, get_field, with_field
from cpuidlab.kvm.fields import FIELDS, REGISTERS, Field, leaf_name

FORMS = (
    "any field of tooling/cpuid-fields.toml as FIELD=N or BIT=on|off, any register as LEAF.SUBLEAF.REGISTER=N, or ^N"
    " to flip bits: 0x40000003.0.eax^0x1"
)
_REGISTER = re.compile(r"(0x[0-9a-f]{1,8})(?:\.(\d{1,4}))?\.(eax|ebx|ecx|edx)(=\^|=|\^)(.+)", re.IGNORECASE)
_NUMBER = re.compile(r"0x[0-9a-f]{1,8}|\d{1,10}", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class FieldChange:
    """What the change of a field or register does, for people, and the edit.

    `compared` is False where KVM overwrites all that is changed before it compares.
    """

    what: str
    edit: Callable[[Model], Model]
    compared: bool


def number(text: str) -> int:
    """A decimal number, or one in hexadecimal with 0x."""
    return int(text, 16 if text.lower().startswith("0x") else 10)


def read(part: str, kept: Collection[str]) -> FieldChange | None:
    """The change that `part` names; None where it names neither a field nor a register.

    `kept` are the fields that KVM keeps itself. Raises UsageError where a value does not fit.
    """
    if found := _REGISTER.fullmatch(part):
        return _of_register(part, found, kept)
    name, _, value = part.partition("=")
    return _of_field(part, FIELDS[name], value, name not in kept) if name in FIELDS else None


def _of_field(part: str, field: Field, value: str, compared: bool) -> FieldChange:
    bit = field.low == field.high
    if value not in ("on", "off") if bit else not _NUMBER.fullmatch(value):
        raise UsageError(f"change {part!r}: write {field.name}={'on|off' if bit else 'N'}")
    wanted = int(value == "on") if bit else number(value)
    where = f"{field.name} ({field.where()})"
    what = f"{where} is {'set' if wanted else 'cleared'}" if bit else f"{where} becomes {wanted}"
    return FieldChange(what, lambda model: _with_field(model, field.name, wanted, part), compared)


def _with_field(model: Model, name: str, wanted: int, part: str) -> Model:
    if get_field(model, name) == wanted:
        raise UsageError(f"{part} changes nothing: this CPU model has that value already")
    return with_field(model, name, wanted)


def _of_register(part: str, found: re.Match[str], kept: Collection[str]) -> FieldChange:
    register = next(each for each in REGISTERS if each == found[3].lower())
    whole = Field(part, int(found[1], 16), int(found[2] or 0), register, 0, 31, "")
    where = f"{leaf_name(whole.leaf, whole.subleaf)} {register.upper()}"
    if not _NUMBER.fullmatch(found[5]) or number(found[5]) > whole.mask:
        raise UsageError(f"change {part!r}: the value should be a number of 32 bits, such as 0x1")
    value = number(found[5])
    if found[4] == "=":
        return FieldChange(f"{where} becomes 0x{value:x}", lambda model: _put(model, whole, lambda _: value), True)
    what = f"the bits 0x{value:x} of {where} are flipped"
    flips = bool(value & ~_mask(whole, kept))
    return FieldChange(what, lambda model: _put(model, whole, lambda word: word ^ value), flips)


def _put(model: Model, whole: Field, edit: Callable[[int], int]) -> Model:
    entry = find(model, whole.leaf, whole.subleaf)
    if entry is None:
        raise UsageError(f"this CPU model has no {leaf_name(whole.leaf, whole.subleaf)}")
    at = model.index(entry)
    return (*model[:at], entry.with_register(whole.register, edit(entry.register(whole.register))), *model[at + 1 :])


def _mask(whole: Field, names: Collection[str]) -> int:
    """The bits of a register that belong to the named fields."""
    place = whole.leaf, whole.subleaf, whole.register
    fields = [FIELDS[name] for name in names]
    return sum(each.mask for each in fields if (each.leaf, each.subleaf, each.register) == place)
