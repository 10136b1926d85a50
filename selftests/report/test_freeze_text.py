"""Freeze maps: to data and back, in words, against the table, and side by side."""

import json
from dataclasses import replace

import pytest
from cpuidlab.experiment.freeze import FreezeMap, FrozenMsr
from cpuidlab.experiment.sweep import Sweep
from cpuidlab.judge.freeze_rules import rules
from cpuidlab.report import freeze_data
from cpuidlab.report.freeze_page import AGREED, freeze_markdown, freeze_part
from cpuidlab.report.freeze_text import call_text, difference, disagreements, freeze_story, msr_text
from cpuidlab.report.sweep_map import Map
from cpuidlab.report.sweep_page import html, markdown

ALL = (1 << 64) - 1
NAMES = ("irqchip", "disable_exits_hlt", "disable_exits_pause", "mce")
OLD = {name: rules(name)[0].answers for name in NAMES}
NEW = {name: rules(name)[-1].answers for name in NAMES} | {"apic_bus_cycles": ("accepted", "EINVAL", "EINVAL")}


def msr(index: int, before: int, after: int, in_l2: int | None = None) -> FrozenMsr:
    """A feature MSR whose bits could be changed before the first run, after it, and with L2 active."""
    taken = {"not run": before, "has run": after} | ({} if in_l2 is None else {"in L2": in_l2})
    bits = {each: {"refused": ALL & ~mask, "applied": mask, "ignored": 0, "other": 0} for each, mask in taken.items()}
    return FrozenMsr(index, 0, bits, dict.fromkeys(taken, True))  # type: ignore[arg-type]


def mapped(host: str, answers: dict[str, tuple[str, ...]], *msrs: FrozenMsr, paging: str = "npt") -> Map:
    freeze = FreezeMap(answers, msrs)
    return Map(host, f"{host}.9-amd64", f"{host}.9-1", paging, "tcg", "host", "stable", Sweep((), (), 0.0), freeze)


FREE = mapped("6.1", OLD, msr(0xC0011029, 2, 2))
FREEZING = mapped("6.18", NEW, msr(0xC0011029, 2, 0))


def test_data_reads_back() -> None:
    assert FREEZING.freeze
    data = json.loads(json.dumps(freeze_data.to_data(FREEZING.freeze)))
    assert freeze_data.from_data(data) == FREEZING.freeze
    assert data["calls"]["irqchip"] == {"no vCPU": "accepted", "not run": "EINVAL", "has run": "EINVAL"}
    assert data["msrs"][0]["name"] == "AMD64_DE_CFG"
    data["msrs"][0]["has run"]["refused"] = "0x1"
    with pytest.raises(ValueError, match="0xc0011029 does not have each bit in one mask"):
        freeze_data.from_data(data)


def test_answers_in_words() -> None:
    assert call_text(("accepted", "EINVAL", "EINVAL")) == "accepted / EINVAL / EINVAL"
    assert call_text(("-", "accepted", "EINVAL")) == "- / accepted / EINVAL"
    assert call_text(("-", "accepted", "accepted")) == "accepted"
    assert call_text(()) == "absent"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [(ALL, 0, "frozen: 63:0"), (0b1011, 0b1000, "frozen: 1:0; still 3"), (ALL, ALL, "not frozen: 63:0"),
     (0, 0, "no bit can be changed"), (0, 4, "not frozen: 2")],
)  # fmt: skip
def test_the_bits_of_an_msr_in_words(before: int, after: int, words: str) -> None:
    assert msr_text(msr(0x10A, before, after)) == words


def test_an_msr_that_l2_freezes_too() -> None:
    late, early = msr(0xC0011029, 2, 0, 2), msr(0xC0011029, 2, 0, 0)
    assert (msr_text(late), msr_text(early)) == ("frozen: 1", "frozen: 1, in L2 too")
    assert disagreements(mapped("6.18", {}, late)) == disagreements(mapped("7.3", {}, early)) == []
    assert disagreements(mapped("7.3", {}, late)) == [
        "AMD64_DE_CFG (0xc0011029): frozen: 1; the table says frozen, in L2 too"
    ]
    assert disagreements(mapped("6.18", {}, early)) == [
        "AMD64_DE_CFG (0xc0011029): frozen: 1, in L2 too; the table says frozen"
    ]
    assert difference(mapped("6.18", {}, late), mapped("7.3", {}, early)) == [
        "AMD64_DE_CFG (0xc0011029): frozen: 1 on 6.18 npt, frozen: 1, in L2 too on 7.3 npt (b47b93c15b12)"
    ]
    for one in (late, early, msr(0x10A, ALL, 0)):
        assert freeze_data.from_data(freeze_data.to_data(FreezeMap({}, (one,)))) == FreezeMap({}, (one,))


def test_an_msr_that_does_not_take_its_own_value_is_told() -> None:
    broken = replace(msr(0x10A, ALL, 0), same={"not run": True, "has run": False})
    assert msr_text(broken) == "frozen: 63:0; its own value is refused (has run)"
    assert disagreements(mapped("6.18", {}, broken)) == [
        "IA32_ARCH_CAPABILITIES (0x10a): frozen: 63:0; its own value is refused (has run)"
    ]


def test_an_msr_that_kvm_makes_itself_need_not_take_its_own_value() -> None:
    refused = {"not run": False, "has run": False}
    assert disagreements(mapped("6.18", {}, replace(msr(0x487, 0, 0), same=refused))) == []
    assert len(disagreements(mapped("6.18", {}, replace(msr(0x486, 0, 0), same=refused)))) == 1


def test_a_kernel_that_does_not_answer_as_the_table_says_is_told() -> None:
    assert disagreements(FREE) == disagreements(FREEZING) == []
    assert disagreements(mapped("6.1", NEW, msr(0xC0011029, 2, 0))) == [
        "KVM_CAP_X86_DISABLE_EXITS: HLT: accepted / EINVAL / EINVAL; the table says accepted",
        "KVM_CAP_X86_DISABLE_EXITS: PAUSE: accepted / EINVAL / EINVAL; the table says accepted",
        "AMD64_DE_CFG (0xc0011029): frozen: 1; the table says not frozen",
    ]
    assert disagreements(mapped("6.18", {}, msr(0xC0011029, 0, 0))) == []  # nothing could be changed before
    assert disagreements(replace(mapped("6.1", NEW), release="5.14.0-427.el9.x86_64")) == []  # nobody knows


def test_what_two_kernels_freeze_differently_with_the_commit() -> None:
    exits = "once there is a vCPU: accepted on 6.1 npt, EINVAL on 6.18 npt (04cd8f8628d8)"
    assert difference(FREE, FREEZING) == [
        "known on 6.18 npt only: KVM_CAP_X86_APIC_BUS_CYCLES_NS",
        f"KVM_CAP_X86_DISABLE_EXITS: PAUSE, {exits}",
        f"KVM_CAP_X86_DISABLE_EXITS: HLT, {exits}",
        "AMD64_DE_CFG (0xc0011029): not frozen: 1 on 6.1 npt, frozen: 1 on 6.18 npt (0094f62c7eaa)",
    ]
    assert difference(FREEZING, replace(FREEZING, paging="shadow")) == []
    assert difference(FREE, replace(FREEZING, freeze=None)) == []


@pytest.mark.parametrize(
    ("answers", "when"),
    [("EBUSY EINVAL EINVAL", "before the first vCPU"), ("accepted EBUSY EINVAL", "on a vCPU that has not run"),
     ("accepted EINVAL EBUSY", "once the vCPU has run"), ("EBUSY EBUSY EBUSY", "once there is a vCPU")],
)  # fmt: skip
def test_when_a_call_is_answered_differently(answers: str, when: str) -> None:
    lines = difference(FREE, mapped("6.1", OLD | {"irqchip": tuple(answers.split())}, msr(0xC0011029, 2, 2)))
    assert any(line.startswith(f"KVM_CREATE_IRQCHIP, {when}: ") for line in lines)


def test_a_call_on_a_vcpu_alone_is_answered_differently_at_any_time() -> None:
    lines = difference(FREE, mapped("6.1", OLD | {"mce": ("-", "EBUSY", "EBUSY")}, msr(0xC0011029, 2, 2)))
    assert lines == ["KVM_X86_SETUP_MCE, at any time: accepted on 6.1 npt, EBUSY on 6.1 npt"]


def test_kernels_that_freeze_the_same_share_a_column() -> None:
    maps = [FREE, replace(FREE, paging="shadow"), FREEZING, mapped("6.12", OLD, msr(0xC0011029, 2, 0))]
    part = freeze_part([*maps, replace(FREEZING, paging="shadow", freeze=maps[0].freeze)])
    assert part
    assert part.columns == ("6.1", "6.18 npt", "6.12", "6.18 shadow")
    rows = {row.text: row for row in part.rows}
    exits = rows["KVM_CAP_X86_DISABLE_EXITS: HLT"]
    assert exits.cells == ("accepted", "accepted / EINVAL / EINVAL", "accepted", "accepted")
    assert (exits.special, exits.commits) == (True, "04cd8f8628d8")
    assert not rows["KVM_X86_SETUP_MCE"].special
    assert [column for column, _ in part.disagreements] == ["6.18 shadow"]  # of the new kernel, and it does not freeze
    assert freeze_part([replace(FREE, freeze=None)]) is None


def test_page_and_markdown_show_agreement_and_disagreement() -> None:
    good, bad = [FREE, FREEZING], [FREE, mapped("6.18<b>", OLD)]
    assert AGREED in markdown(good)
    assert "answers as the table of rules says" in html(good)
    assert "| **KVM\\_CREATE\\_IRQCHIP** | accepted / EINVAL / EINVAL | accepted / EINVAL / EINVAL |" in markdown(good)
    assert "- 6.18\\<b\\>: KVM\\_CAP\\_X86\\_DISABLE\\_EXITS: PAUSE: accepted; the table says" in markdown(bad)
    assert "Not as the table of rules says" in html(bad)
    assert "<b>" not in html(bad)


def test_a_map_in_lines_for_a_terminal() -> None:
    head = "frozen by the first vCPU or its first run: calls: 4 of 5; feature MSRs: 1 of 1"
    assert freeze_story(FREEZING) == [head]
    assert freeze_story(mapped("6.1", OLD | {"mce": ("-", "EBUSY", "EBUSY")}))[1] == (
        "not as the table says: KVM_X86_SETUP_MCE: EBUSY; the table says accepted"
    )
    assert freeze_story(replace(FREE, freeze=None)) == []


def test_a_part_without_maps_makes_no_paragraphs() -> None:
    part = freeze_part([FREE])
    assert part and freeze_markdown(part)[0] == "## What the first vCPU and the first KVM_RUN freeze"
