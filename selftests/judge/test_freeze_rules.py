"""The rules of freeze.toml: which one is a kernel's, and the commits between two."""

import re

import pytest
from cpuidlab.experiment.freeze_table import PHASES, UNTRIED, calls, rows
from cpuidlab.judge.freeze_rules import OTHER_MSRS, UNKNOWN, commits_between, expected, msr_name, rules


@pytest.mark.parametrize(
    ("release", "version", "answers"),
    [
        ("6.12.118+deb13-cloud-amd64", "6.12.118-1", ("accepted",) * 3),
        ("6.13.99-amd64", "6.13.99-1", ("accepted",) * 3),
        ("6.14.0-rc1", "6.14.0-rc1", ("accepted", "EINVAL", "EINVAL")),
        ("7.3.4+deb13-cloud-amd64", "7.3.4-1", ("accepted", "EINVAL", "EINVAL")),
        ("6.13.0-1234-gabcdef0", "6.13.0-1234-gabcdef0", None),  # a tree that may have it already
        ("5.4.1", "5.4.1", None),  # older than all rules
        ("5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.13.1.el9_4", None),  # KVM is rebased
        ("nonsense", "nonsense", None),
    ],
)
def test_the_rule_of_a_kernel(release: str, version: str, answers: tuple[str, ...] | None) -> None:
    rule = expected("disable_exits_hlt", release, version)
    assert (rule and rule.answers) == answers


def test_where_nobody_has_looked_there_is_no_rule() -> None:
    assert [bool(expected("pit_alone", each, each)) for each in ("6.1.9", "6.2.1", "6.12.0")] == [True, False, True]


def test_the_commits_between_two_rules_whichever_comes_first() -> None:
    old, new = rules("disable_exits_hlt")
    assert commits_between("disable_exits_hlt", old, new) == ("04cd8f8628d8",)
    assert commits_between("disable_exits_hlt", new, old) == ("04cd8f8628d8",)
    assert commits_between("disable_exits_hlt", new, new) == ()


def test_each_feature_msr_has_a_table_or_the_rules_of_all_others() -> None:
    assert [msr_name(index) for index in (0x8B, 0x480, 0x491, 0x47F)] == [
        "IA32_UCODE_REV", "VMX capabilities", "VMX capabilities", OTHER_MSRS,
    ]  # fmt: skip
    rule = expected(OTHER_MSRS, "6.4.0", "6.4.0")
    assert rule and rule.answers == ("frozen",)


def test_every_rule_is_in_order_has_a_word_each_phase_and_names_its_commit() -> None:
    for row in (*rows()["call"], *rows()["msr"]):
        known = rules(row["name"])
        assert list(known) == sorted(known, key=lambda rule: rule.start), row["name"]
        sure = [rule for rule in known if rule.answers != UNKNOWN]
        assert all(rule.commits for rule in sure[1:]) or len(sure) < len(known), row["name"]
        assert all(re.fullmatch("[0-9a-f]{12}", commit) for rule in known for commit in rule.commits)
    for call in calls().values():
        for rule in (rule for rule in rules(call.name) if rule.answers != UNKNOWN):
            assert len(rule.answers) == len(PHASES), call.name
            assert (rule.answers[0] == UNTRIED) == (call.on == "vcpu"), call.name
