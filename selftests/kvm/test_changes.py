"""Named changes: each does exactly what it says, and says so where it cannot."""

from dataclasses import replace

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.kvm.changes import CHANGES, VENDORS, known, parse, vendor_of
from cpuidlab.kvm.cpuid import Entry, diff, find, get_field
from models import EPYC

VALUES = {"maxphyaddr": "=36", "vaddr_width": "=40", "sev_cbit": "=51", "vendor": "=intel"}


def written(name: str) -> str:
    return name + VALUES.get(name, f"={CHANGES[name].value}" if CHANGES[name].value else "")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("maxphyaddr=36", ["leaf 0x80000008 EAX: 0x00003028 -> 0x00003024 (maxphyaddr 40 -> 36)"]),
        ("gbpages=off", ["leaf 0x80000001 EDX: 0x2593fbfd -> 0x2193fbfd (gbpages 1 -> 0)"]),
        ("nx=off", ["leaf 0x80000001 EDX: 0x2593fbfd -> 0x2583fbfd (nx 1 -> 0)"]),
        ("pcid=off", ["leaf 0x1 ECX: 0xfefa3203 -> 0xfef83203 (pcid 1 -> 0)"]),
        ("smep=off", ["leaf 0x7 EBX: 0x00100080 -> 0x00100000 (smep 1 -> 0)"]),
        ("smap=off", ["leaf 0x7 EBX: 0x00100080 -> 0x00000080 (smap 1 -> 0)"]),
        ("la57=off", ["leaf 0x7 ECX: 0x00010018 -> 0x00000018 (la57 1 -> 0)"]),
        ("sev_cbit=51", ["leaf 0x8000001f EBX: 0x0000002f -> 0x00000033 (sev_cbit 47 -> 51)"]),
        ("apicid", ["leaf 0x1 EBX: 0x01020800 -> 0x81020800 (apicid 1 -> 129)"]),
        ("kvm_leaf", ["leaf 0x40000001 EAX: 0x0100007b -> 0x0100003b (kvm_pv_eoi 1 -> 0)"]),
        ("reordered", ["the entries are in another order"]),
        ("one_less", ["leaf 0x8000001f: removed"]),
        ("hypervisor=off", ["leaf 0x1 ECX: 0xfefa3203 -> 0x7efa3203 (hypervisor 1 -> 0)"]),
        ("flags", ["leaf 0x8000001f flags: 0x0 -> 0x2"]),
        ("padding", ["leaf 0x8000001f padding: (0, 0, 0) -> (1, 2, 3)"]),
        (
            "runtime_bits",
            [
                "leaf 0x1 ECX: 0xfefa3203 -> 0xf6fa3203 (osxsave 1 -> 0)",
                "leaf 0x1 EDX: 0x178bfbff -> 0x178bf9ff (apic 1 -> 0)",
                "leaf 0x7 ECX: 0x00010018 -> 0x00010008 (ospke 1 -> 0)",
                "leaf 0xd EBX: 0x00000240 -> 0x00000241 (xsave_size 576 -> 577)",
                "leaf 0xd.1 EBX: 0x00000340 -> 0x00000341 (xsaves_size 832 -> 833)",
            ],
        ),
    ],
)
def test_change_does_just_that(text: str, lines: list[str]) -> None:
    assert list(diff(EPYC, parse(text).apply(EPYC))) == lines


def test_shapes() -> None:
    assert parse("one_more").apply(EPYC) == (*EPYC, Entry(0, 0, 0, 0, 0, 0, 0))
    assert parse("empty").apply(EPYC) == ()
    assert parse("function").apply(EPYC) == (*EPYC[:-1], replace(EPYC[-1], function=0x8000101F))
    assert parse("index").apply(EPYC) == (*EPYC[:-1], replace(EPYC[-1], index=0x1000))


def test_vendor_is_told_in_both_leaves() -> None:
    changed = parse("vendor=intel").apply(EPYC)
    for leaf in (0, 0x80000000):
        entry = find(changed, leaf, 0)
        assert entry is not None
        word = b"".join(value.to_bytes(4, "little") for value in (entry.ebx, entry.edx, entry.ecx))
        assert word == VENDORS["intel"]
    assert vendor_of(changed) == VENDORS["intel"]
    assert parse("vendor=amd").apply(changed) == EPYC
    assert parse("vendor=other").apply(EPYC) == changed
    assert parse("vendor=other").apply(changed) == EPYC
    with pytest.raises(UsageError, match="vendor=intel changes nothing"):
        parse("vendor=intel").apply(changed)
    with pytest.raises(UsageError, match="no vendor: leaf 0x0 is missing"):
        parse("vendor=other").apply(tuple(entry for entry in EPYC if entry.function))


def test_joined_changes_are_all_done() -> None:
    change = parse("maxphyaddr=36, gbpages=off")
    changed = change.apply(EPYC)
    assert (get_field(changed, "maxphyaddr"), get_field(changed, "gbpages")) == (36, 0)
    assert change.name == "maxphyaddr=36,gbpages=off"
    assert "becomes 36; gbpages" in change.describes()


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_described_and_refuses_a_model_without_entries(name: str) -> None:
    change = parse(written(name))
    assert change.describes()
    assert change.apply(EPYC) != EPYC
    if name != "one_more":
        with pytest.raises(UsageError, match=r"this CPU model (has no|is like that already)"):
            change.apply(())


def test_change_that_changes_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="has that value already"):
        parse("maxphyaddr=40").apply(EPYC)
    with pytest.raises(UsageError, match="this CPU model has no gbpages"):
        parse("gbpages=off").apply(parse("gbpages=off").apply(EPYC))
    with pytest.raises(UsageError, match="is like that already"):
        parse("vendor=amd").apply(EPYC)
    with pytest.raises(UsageError, match="holds 0 to 63"):
        parse("sev_cbit=64").apply(EPYC)


@pytest.mark.parametrize("text", ["nonsense", "", "maxphyaddr=36,nonsense=1", "MAXPHYADDR=36"])
def test_unknown_change_lists_the_known(text: str) -> None:
    with pytest.raises(UsageError, match="unknown change") as error:
        parse(text)
    assert known() in str(error.value)


@pytest.mark.parametrize(
    "text", ["maxphyaddr", "maxphyaddr=", "maxphyaddr=x", "maxphyaddr=-1", "maxphyaddr=²", "gbpages=maybe",
             "vendor=via", "vendor=", "empty=1", "empty=", "reordered=off"]
)  # fmt: skip
def test_bad_value_is_told_how_to_write_it(text: str) -> None:
    with pytest.raises(UsageError, match="write "):
        parse(text)


def test_change_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="named twice"):
        parse("maxphyaddr=36,maxphyaddr=32")


@pytest.mark.parametrize("name", ["padding", "runtime_bits"])
def test_what_kvm_does_not_compare_is_not_read_back(name: str) -> None:
    change = parse(name)
    assert not change.compared
    assert change.read_back(EPYC) == EPYC != change.apply(EPYC)
    with_more = parse(f"{name},maxphyaddr=36")
    assert with_more.compared
    assert with_more.read_back(EPYC) == parse("maxphyaddr=36").apply(EPYC)


def test_every_other_change_is_compared_and_read_back() -> None:
    for name in CHANGES:
        if name not in ("padding", "runtime_bits"):
            change = parse(written(name))
            assert change.compared
            assert change.read_back(EPYC) == change.apply(EPYC)
