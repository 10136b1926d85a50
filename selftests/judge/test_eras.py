import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.judge.eras import era, eras, predict
from cpuidlab.kernels.version import Version
from hypothesis import given
from hypothesis import strategies as st

NAMES = ["silent", "warn", "forbid-all", "false-refusal", "forbid-changed", "forbid-changed-l2"]
VERSIONS = st.tuples(st.integers(0, 12), st.integers(0, 40), st.integers(0, 400))


def test_order_of_history() -> None:
    assert [one.name for one in eras()] == NAMES
    assert era("forbid-changed").later_than(era("false-refusal"))
    assert not era("warn").later_than(era("warn"))


@given(VERSIONS)
def test_every_version_belongs_to_one_range(version: Version) -> None:
    assert sum(version in part for one in eras() for part in one.ranges) == 1


def test_ranges_meet_end_to_start() -> None:
    parts = sorted((part for one in eras() for part in one.ranges), key=lambda part: part.start)
    assert parts[0].start == (0, 0, 0)
    assert [part.until for part in parts] == [*(part.start for part in parts[1:]), None]
    assert all(part.commits for part in parts[1:])


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("5.10.251-1", "silent"),
        ("2.6.32.71-el6", "silent"),
        ("5.13.19", "silent"),
        ("5.14-rc1", "warn"),
        ("5.14.0-427.13.1.el9_4.x86_64", "warn"),
        ("5.15.0-113-generic", "warn"),
        ("5.15.196", "warn"),
        ("5.16", "forbid-all"),
        ("5.16.2", "forbid-all"),
        ("5.16.3", "forbid-changed"),
        ("6.1.0-50-cloud-amd64", "forbid-changed"),
        ("6.12.107+deb13-cloud-amd64", "forbid-changed"),
        ("6.14.11", "forbid-changed"),
        ("6.15.0", "false-refusal"),
        ("6.17.13+deb13-cloud-amd64", "false-refusal"),
        ("6.18.2", "false-refusal"),
        ("6.18.3-rc2", "forbid-changed"),
        ("6.18.3", "forbid-changed"),
        ("6.19", "forbid-changed"),
        ("v7.0-rc3-12-g0123456789ab", "forbid-changed-l2"),
        ("7.3~rc4-1~exp1", "forbid-changed-l2"),
        ("7.3.4+deb13-cloud-amd64\n", "forbid-changed-l2"),
    ],
)
def test_prediction(version: str, name: str) -> None:
    assert predict(version).name == name


@pytest.mark.parametrize("version", ["", "six", "6", "linux-6.12", "99999.1"])
def test_what_is_no_version(version: str) -> None:
    with pytest.raises(UsageError, match="cannot read a kernel version"):
        predict(version)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'loud'; known: silent, warn, "):
        era("loud")


def test_commits_on_the_way() -> None:
    changed = era("forbid-changed")
    assert changed.commits_after(era("silent")) == ("c6617c61e8fe", "ee3a5f9e3d9b")
    assert changed.commits_after(era("false-refusal")) == ("e2b43fb25243",)
    assert changed.commits == ("c6617c61e8fe", "ee3a5f9e3d9b", "e2b43fb25243")


def test_what_ended_an_era() -> None:
    ends = {one.name: one.ended_by() for one in eras()}
    assert ends["silent"] == ("63f5a1909f9e",)
    assert ends["forbid-all"] == ("c6617c61e8fe", "ee3a5f9e3d9b")
    assert ends["forbid-changed"] == ("b47b93c15b12",)
    assert ends["false-refusal"] == ("e2b43fb25243",)
    assert ends["forbid-changed-l2"] == ()


def test_promises() -> None:
    table = {one.name: (one.identical, one.pending, one.changed, one.lines, one.defect) for one in eras()}
    assert table == {
        "silent": ("accepted", "accepted", "accepted", False, False),
        "warn": ("accepted", "accepted", "accepted", True, False),
        "forbid-all": ("EINVAL", "EINVAL", "EINVAL", False, False),
        "forbid-changed": ("accepted", "accepted", "EINVAL", False, False),
        "false-refusal": ("accepted", "EINVAL", "EINVAL", False, True),
        "forbid-changed-l2": ("accepted", "accepted", "EINVAL", False, False),
    }
