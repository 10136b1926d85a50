"""CPUID models: text form, fields, differences, and the comparison with what a guest sees."""

import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.experiment.guest_cpuid import Seen, parse_seen, seen_differs, to_ask
from cpuidlab.kvm.cpuid import Entry, Model, diff, find, from_text, get_field, to_text, with_field
from cpuidlab.kvm.fields import FIELDS, REGISTERS, Field
from hypothesis import given
from models import EPYC, models


@given(models)
def test_text_form_reads_back(model: Model) -> None:
    assert from_text(to_text(model)) == model


@pytest.mark.parametrize("line", ["rubbish", "0x00000000 0x00 eax=0x1", to_text(EPYC)[:60]])
def test_text_that_is_no_entry_is_refused(line: str) -> None:
    with pytest.raises(LabError, match="not a CPUID entry"):
        from_text(line)


@given(models, models)
def test_diff_is_empty_exactly_for_equal_models(before: Model, after: Model) -> None:
    assert diff(before, before) == ()
    assert bool(diff(before, after)) == (before != after)


def test_diff_names_the_field() -> None:
    assert diff(EPYC, with_field(EPYC, "maxphyaddr", 36)) == (
        "leaf 0x80000008 EAX: 0x00003028 -> 0x00003024 (maxphyaddr 40 -> 36)",
    )


def test_diff_tells_shape() -> None:
    assert diff(EPYC, (EPYC[1], EPYC[0], *EPYC[2:])) == ("the entries are in another order",)
    assert diff(EPYC, EPYC[:-1]) == ("leaf 0x8000001f: removed",)
    assert "added" in diff(EPYC[:-1], EPYC)[0]


def test_entries_without_significant_index_answer_every_subleaf() -> None:
    assert find(EPYC, 0x80000008, 5) == EPYC[9]
    assert find(EPYC, 0xD, 1) == EPYC[6]
    assert find(EPYC, 0xD, 2) is None


def test_fields_read_and_write() -> None:
    assert (get_field(EPYC, "maxphyaddr"), get_field(EPYC, "linear_bits"), get_field(EPYC, "sev_cbit")) == (40, 48, 47)
    assert (get_field(EPYC, "gbpages"), get_field(EPYC, "apicid"), get_field(EPYC[:9], "maxphyaddr")) == (1, 1, None)
    changed = with_field(EPYC, "apicid", 255)
    assert find(changed, 1, 0) == Entry(0x1, 0, 0, 0x60FB1, 0xFF020800, 0xFEFA3203, 0x178BFBFF)
    with pytest.raises(UsageError, match="holds 0 to 255"):
        with_field(EPYC, "maxphyaddr", 256)
    with pytest.raises(UsageError, match="this CPU model has no maxphyaddr"):
        with_field(EPYC[:9], "maxphyaddr", 36)


def test_every_field_lies_within_its_register() -> None:
    def fits(field: Field) -> bool:
        highest = 2 ** (field.high - field.low + 1) - 1
        return 0 <= field.low <= field.high <= 31 and field.of(field.mask) == field.mask >> field.low == highest

    assert [name for name, field in FIELDS.items() if not fits(field)] == []


def printed(model: Model, cpu: int = 0) -> str:
    """The model as guests/guest/health.c prints it."""
    lines = [
        f"   0x{e.function:08x} 0x{e.index:02x}: " + " ".join(f"{r}=0x{e.register(r):08x}" for r in REGISTERS)
        for e in model
    ]
    return f"CPU {cpu}:\n" + "\n".join(lines) + "\n"


def seen_of(model: Model) -> Seen:
    return parse_seen(printed(model))[0]


def test_two_cpus_are_read() -> None:
    seen = parse_seen(printed(EPYC) + printed(EPYC[1:3], 1))
    assert [(cpu, len(leaves)) for cpu, leaves in seen.items()] == [(0, len(EPYC)), (1, 2)]
    assert seen[1][1, 0].ebx == 0x01020800


@pytest.mark.parametrize(
    "text", ["", "CPU 0:\n", "sh: cpuid: not found\n", printed(EPYC) + "CPU 1:\n", printed(EPYC)[7:]]
)
def test_output_that_is_not_cpuids_is_refused(text: str) -> None:
    with pytest.raises(LabError):
        parse_seen(text)


def test_same_model_seen() -> None:
    assert seen_differs(EPYC, seen_of(EPYC)) == ()


def test_a_leaf_without_entry_reads_zero_within_range_only() -> None:
    zero, other = Entry(0x5, 0, 0, 0, 0, 0, 0), Entry(0x5, 0, 0, 0, 0, 3, 0)
    beyond, topology = Entry(0x14, 0, 0, 0, 0, 3, 0), Entry(0xB, 2, 0, 0, 0, 2, 1)
    assert seen_differs(EPYC, seen_of((*EPYC, zero, beyond, topology))) == ()
    assert seen_differs(EPYC, seen_of((*EPYC, other))) == (
        "leaf 0x5 ECX: KVM reports 0x00000000, the guest sees 0x00000003",
    )


def test_difference_is_named() -> None:
    assert seen_differs(with_field(EPYC, "maxphyaddr", 36), seen_of(EPYC)) == (
        "leaf 0x80000008 EAX: KVM reports 0x00003024, the guest sees 0x00003028 (maxphyaddr 36 -> 40)",
    )
    assert len(seen_differs(with_field(EPYC, "apicid", 0), seen_of(EPYC))) == 1


@pytest.mark.parametrize("name", ["osxsave", "apic", "ospke", "rtm", "xsave_size", "xsaves_size"])
def test_what_follows_the_cpus_state_is_not_compared(name: str) -> None:
    flipped = with_field(EPYC, name, (get_field(EPYC, name) or 0) ^ 1)
    assert flipped != EPYC
    assert seen_differs(flipped, seen_of(EPYC)) == ()


def test_leaf_that_was_not_read_is_told() -> None:
    assert seen_differs(EPYC, seen_of(EPYC[:-1])) == ("leaf 0x8000001f: KVM's model has it, the guest did not read it",)


def test_a_later_subleaf_that_was_not_read_is_told() -> None:
    more = (*EPYC, Entry(0x8000001D, 1, 1, 5, 0, 0, 0))
    assert seen_differs(more, seen_of(EPYC)) == ("leaf 0x8000001d.1: KVM's model has it, the guest did not read it",)


def test_a_guest_is_asked_for_all_entries_and_for_the_leaves_between_them() -> None:
    basic, beyond = Entry(0, 0, 0, 3, 0, 0, 0), Entry(0xD, 2, 1, 0, 0, 0, 0)
    hypervisor, extended = Entry(0x40000000, 0, 0, 0x40000001, 0, 0, 0), Entry(0x80000000, 0, 0, 0x80000001, 0, 0, 0)
    asked = to_ask([(basic, beyond), (hypervisor, extended)])
    assert " ".join(asked) == "0.0 1.0 2.0 3.0 d.2 40000000.0 80000000.0 80000001.0"


def test_a_model_that_tells_a_wild_highest_leaf_makes_no_endless_list() -> None:
    assert len(to_ask([(Entry(0, 0, 0, 0xFFFFFFFF, 0, 0, 0),)])) < 100


def test_comparing_nothing_is_not_agreement() -> None:
    assert "nothing was compared" in seen_differs((), seen_of(EPYC))[0]
    assert seen_differs(EPYC[:1], {}) != ()
