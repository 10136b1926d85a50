"""The named changes of a CPU model, as a table: what a user may write after --change."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from cpuidlab.base.errors import UsageError
from cpuidlab.kvm import field_changes
from cpuidlab.kvm.cpuid import STATEFUL, Entry, Model, find, get_field, with_field
from cpuidlab.kvm.fields import FIELDS

_Edit = Callable[[Model], Model]
VENDORS = {"intel": b"GenuineIntel", "amd": b"AuthenticAMD"}


@dataclass(frozen=True)
class Step:
    """One named change with its value. KVM keeps nothing of a change that it does not compare."""

    name: str
    what: str  # for people
    edit: _Edit
    compared: bool


@dataclass(frozen=True)
class Change:
    """Named changes, done in order, as the user wrote them (`maxphyaddr=36,gbpages=off`)."""

    name: str
    steps: tuple[Step, ...]

    @property
    def compared(self) -> bool:
        """Whether KVM takes a changed model for another one than it was before."""
        return any(step.compared for step in self.steps)

    def apply(self, model: Model) -> Model:
        """Return the changed model. Raises UsageError where a step would change nothing in this model."""
        return _done(self.steps, model)

    def read_back(self, model: Model) -> Model:
        """Return what KVM_GET_CPUID2 tells of `model` after KVM has accepted the changed one."""
        return _done([step for step in self.steps if step.compared], model)

    def describes(self) -> str:
        """What the change does, for people."""
        return "; ".join(step.what for step in self.steps)


NO_CHANGE = Change("", ())  # the same CPUID once more


def _done(steps: Iterable[Step], model: Model) -> Model:
    for step in steps:
        changed = step.edit(model)
        if changed == model:
            raise UsageError(f"{step.name} changes nothing: this CPU model is like that already")
        model = changed
    return model


@dataclass(frozen=True)
class _Row:
    value: str  # what stands after the `=`: N for a number, else one of the words between the bars; empty: nothing
    what: str  # with {} for the value
    edit: Callable[[str], _Edit]
    compared: bool = True


def _number(field: str) -> _Row:
    return _Row(
        "N", f"{field} ({FIELDS[field].where()}) becomes {{}}", lambda value: lambda m: _put(m, field, int(value))
    )


def _put(model: Model, field: str, value: int) -> Model:
    if get_field(model, field) == value:
        raise UsageError(f"{field}={value} changes nothing: this CPU model has that value already")
    return with_field(model, field, value)


def _off(field: str) -> _Row:
    return _Row("off", f"{field} ({FIELDS[field].where()}) is cleared", lambda _: lambda model: _clear(model, field))


def _clear(model: Model, field: str) -> Model:
    if not get_field(model, field):
        raise UsageError(f"this CPU model has no {field}: {FIELDS[field].where()} is not set, nothing would change")
    return with_field(model, field, 0)


def _flip(model: Model, field: str, mask: int) -> Model:
    return with_field(model, field, (get_field(model, field) or 0) ^ mask)


def vendor_of(model: Model) -> bytes:
    """Return the vendor, as b"AuthenticAMD". Raises UsageError where the model has none."""
    entry = find(model, 0, 0)
    if entry is None:
        raise UsageError("this CPU model has no vendor: leaf 0x0 is missing")
    return b"".join(word.to_bytes(4, "little") for word in (entry.ebx, entry.edx, entry.ecx))


def _vendor(value: str) -> _Edit:
    def edit(model: Model) -> Model:
        other = "amd" if vendor_of(model) == VENDORS["intel"] else "intel"
        new = other if value == "other" else value
        words = [int.from_bytes(VENDORS[new][at : at + 4], "little") for at in (0, 4, 8)]
        vendor_of(model)
        return tuple(
            replace(entry, ebx=words[0], edx=words[1], ecx=words[2]) if entry.function in (0, 0x80000000) else entry
            for entry in model
        )

    return edit


# A bit that KVM sets by itself from the vCPU's state, and the feature that must be there for KVM to do so.
RUNTIME_FIELDS = (
    ("osxsave", "xsave"),
    ("apic", "apic"),
    ("ospke", "pku"),
    ("xsave_size", "xsave"),
    ("xsaves_size", "xsaves"),
)


def without_runtime_bits(model: Model) -> Model:
    """The model with all that KVM keeps itself cleared: a guest that boots sets CR4 anew, and may choose otherwise."""
    for field, _ in RUNTIME_FIELDS:
        if get_field(model, field) is not None:
            model = with_field(model, field, 0)
    return model


def _runtime_bits(model: Model) -> Model:
    changed = model
    for field, needed in RUNTIME_FIELDS:
        if get_field(model, needed) and get_field(model, field) is not None:
            changed = _flip(changed, field, 1)
    if changed == model:
        raise UsageError("this CPU model has no bits that KVM keeps itself")
    return changed


def _with_last(edit: Callable[[Entry], tuple[Entry, ...]]) -> Callable[[str], _Edit]:
    """An edit of the last entry, the one that other entries depend on least."""

    def last(model: Model) -> Model:
        if not model:
            raise UsageError("this CPU model has no entries")
        return (*model[:-1], *edit(model[-1]))

    return lambda _: last


def _reordered(model: Model) -> Model:
    if len(model) < 2:
        raise UsageError("this CPU model has no two entries to swap")
    return (*model[:-2], model[-1], model[-2])


CHANGES: dict[str, _Row] = {
    "maxphyaddr": _number("maxphyaddr"),
    "sev_cbit": _number("sev_cbit"),
    "vaddr_width": _number("linear_bits"),
    "gbpages": _off("gbpages"),
    "nx": _off("nx"),
    "pcid": _off("pcid"),
    "smep": _off("smep"),
    "smap": _off("smap"),
    "la57": _off("la57"),
    "hypervisor": _off("hypervisor"),
    "vendor": _Row("intel|amd|other", "the vendor (leaves 0x0 and 0x80000000) becomes {}", _vendor),
    "apicid": _Row("", "the top bit of the initial APIC id is flipped", lambda _: lambda m: _flip(m, "apicid", 0x80)),
    "topology": _Row(
        "", "the number of logical processors is changed", lambda _: lambda m: _flip(m, "logical_processors", 8)
    ),
    "kvm_leaf": _Row("", "KVM's PV EOI feature bit is flipped", lambda _: lambda m: _flip(m, "kvm_pv_eoi", 1)),
    # kvm_set_cpuid() overwrites these bits before it compares, see RUNTIME_FIELDS
    "runtime_bits": _Row("", "the bits that KVM keeps itself are flipped", lambda _: _runtime_bits, compared=False),
    "reordered": _Row("", "the last two entries change places", lambda _: _reordered),
    "one_more": _Row("", "a zero entry is added", lambda _: lambda model: (*model, Entry(0, 0, 0, 0, 0, 0, 0))),
    "one_less": _Row("", "the last entry is dropped", _with_last(lambda _: ())),
    "empty": _Row("", "the model has no entries", lambda _: lambda _model: ()),
    "function": _Row(
        "", "the last entry belongs to another leaf", _with_last(lambda e: (replace(e, function=e.function ^ 0x1000),))
    ),
    "index": _Row(
        "", "the last entry belongs to another subleaf", _with_last(lambda e: (replace(e, index=e.index ^ 0x1000),))
    ),
    "flags": _Row(
        "", "the last entry's stateful flag is flipped", _with_last(lambda e: (replace(e, flags=e.flags ^ STATEFUL),))
    ),
    # kvm_cpuid_check_equal() looks at six words of an entry, and KVM_GET_CPUID2 does not give padding back
    "padding": _Row(
        "",
        "the last entry's padding is not zero",
        _with_last(lambda e: (replace(e, padding=(1, 2, 3)),)),
        compared=False,
    ),
}


def known() -> str:
    """All names with their values, for messages and help."""
    names = ", ".join(f"{name}={row.value}" if row.value else name for name, row in CHANGES.items())
    return f"{names}; {field_changes.FORMS}"


def parse(text: str) -> Change:
    """Read `maxphyaddr=36` or several joined by commas. Raises UsageError that lists what is known."""
    steps = tuple(_step(part.strip()) for part in text.split(","))
    names = [step.name.partition("=")[0] for step in steps]
    if len(set(names)) != len(names):
        raise UsageError(f"{text}: a change is named twice")
    return Change(",".join(step.name for step in steps), steps)


def _step(part: str) -> Step:
    name, _, value = part.partition("=")
    row = CHANGES.get(name)
    if row is not None and _fits(row, part, value):
        return Step(part, row.what.format(value), row.edit(value), row.compared)
    change = field_changes.read(part, [field for field, _ in RUNTIME_FIELDS])
    if change is not None:
        return Step(part, change.what, change.edit, change.compared)
    if row is None:
        raise UsageError(f"unknown change {part!r}; known are: {known()}")
    raise UsageError(f"change {part!r}: write {f'{name}={row.value}' if row.value else name}")


def _fits(row: _Row, part: str, value: str) -> bool:
    if ("=" in part) != bool(row.value):
        return False
    return value.isascii() and value.isdecimal() if row.value == "N" else value in row.value.split("|")
