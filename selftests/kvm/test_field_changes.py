"""Any field of cpuid-fields.toml and any register is a change; each does just what it says."""

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.kvm import field_changes
from cpuidlab.kvm.changes import RUNTIME_FIELDS, parse
from cpuidlab.kvm.cpuid import Model, diff, find, get_field
from cpuidlab.kvm.fields import FIELDS
from models import EPYC

KEPT = [field for field, _ in RUNTIME_FIELDS]


@pytest.mark.parametrize(
    ("text", "lines", "what"),
    [
        (
            "guest_maxphyaddr=40",
            ["leaf 0x80000008 EAX: 0x00003028 -> 0x00283028 (guest_maxphyaddr 0 -> 40)"],
            "guest_maxphyaddr (leaf 0x80000008 EAX[23:16]) becomes 40",
        ),
        ("guest_maxphyaddr=0x28", ["leaf 0x80000008 EAX: 0x00003028 -> 0x00283028 (guest_maxphyaddr 0 -> 40)"], ""),
        ("smep=on", [], "smep (leaf 0x7 EBX[7]) is set"),
        ("smep=off", ["leaf 0x7 EBX: 0x00100080 -> 0x00100000 (smep 1 -> 0)"], ""),
        ("avx2=on", ["leaf 0x7 EBX: 0x00100080 -> 0x001000a0 (avx2 0 -> 1)"], "avx2 (leaf 0x7 EBX[5]) is set"),
        ("osxsave=off", ["leaf 0x1 ECX: 0xfefa3203 -> 0xf6fa3203 (osxsave 1 -> 0)"], ""),
        ("apicid=5", ["leaf 0x1 EBX: 0x01020800 -> 0x05020800 (apicid 1 -> 5)"], "apicid (leaf 0x1 EBX[31:24])"),
        ("0x7.0.ebx=0x1", [], "leaf 0x7 EBX becomes 0x1"),
        ("0x40000001.eax^0x40", ["leaf 0x40000001 EAX: 0x0100007b -> 0x0100003b (kvm_pv_eoi 1 -> 0)"], "the bits 0x40"),
        ("0x40000001.0.EAX=^0x40", ["leaf 0x40000001 EAX: 0x0100007b -> 0x0100003b (kvm_pv_eoi 1 -> 0)"], ""),
        ("0xd.1.ebx=833", ["leaf 0xd.1 EBX: 0x00000340 -> 0x00000341 (xsaves_size 832 -> 833)"], ""),
    ],
)
def test_change_does_just_that(text: str, lines: list[str], what: str) -> None:
    change = parse(text)
    assert change.name == text
    assert change.describes().startswith(what)
    if lines:
        assert list(diff(EPYC, change.apply(EPYC))) == lines


def other(model: Model, name: str) -> str:
    """A value that the field does not have."""
    field, old = FIELDS[name], get_field(model, name)
    if field.low == field.high:
        return "off" if old else "on"
    return str((old or 0) ^ 1)


def test_every_field_that_the_model_has_can_be_changed_alone() -> None:
    tried = 0
    for name, field in FIELDS.items():
        entry = find(EPYC, field.leaf, field.subleaf)
        if entry is None:
            continue
        tried += 1
        changed = parse(f"{name}={other(EPYC, name)}").apply(EPYC)
        after = find(changed, field.leaf, field.subleaf)
        assert after is not None
        differing = entry.register(field.register) ^ after.register(field.register)
        assert differing and not differing & ~field.mask
        assert len(diff(EPYC, changed)) == 1
    assert tried > 100


@pytest.mark.parametrize(
    ("text", "compared"),
    [
        ("maxphyaddr=36", True),
        ("osxsave=off", False),
        ("xsave_size=1", False),
        ("0x1.0.ecx^0x8000000", False),
        ("0x1.0.ecx^0x8000001", True),
        ("0x1.0.ebx^0x8000000", True),
        ("0x1.0.ecx=0x0", True),
    ],
)
def test_what_kvm_compares(text: str, compared: bool) -> None:
    change = field_changes.read(text, KEPT)
    assert change is not None and change.compared is compared


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("smep=1", "write smep=on|off"),
        ("guest_maxphyaddr=on", "write guest_maxphyaddr=N"),
        ("guest_maxphyaddr=²", "write guest_maxphyaddr=N"),
        ("0x1.0.ecx=", "unknown change"),
        ("0x1.0.ecx=x", "should be a number of 32 bits"),
        ("0x1.0.ecx=0x100000000", "should be a number of 32 bits"),
        ("0x1.0.ecx=9999999999", "should be a number of 32 bits"),
        ("1.0.ecx=0x1", "unknown change"),
    ],
)
def test_what_is_no_change(text: str, line: str) -> None:
    with pytest.raises(UsageError) as told:
        parse(text)
    assert line in str(told.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("smep=on", "smep=on changes nothing"),
        ("0x7.0.ebx=0x100080", "changes nothing"),
        ("0x7.0.ebx^0x0", "changes nothing"),
        ("0x12345.0.eax=0x1", "this CPU model has no leaf 0x12345"),
        ("guest_maxphyaddr=256", "holds 0 to 255"),
    ],
)
def test_what_does_not_fit_the_model(text: str, line: str) -> None:
    with pytest.raises(UsageError) as told:
        parse(text).apply(EPYC)
    assert line in str(told.value)
