import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.judge.eras import era, eras, properties, property_named
from cpuidlab.judge.history import possible
from cpuidlab.kernels.version import FINAL, Point, bound, place, series
from hypothesis import given
from hypothesis import strategies as st

NAMES = ["silent", "warn", "forbid-all", "false-acceptance", "false-refusal", "forbid-changed", "forbid-changed-l2"]
POINTS = st.tuples(st.integers(0, 12), st.integers(0, 40), st.integers(0, 400), st.integers(0, FINAL))


def test_order_of_history() -> None:
    assert [one.name for one in eras()] == NAMES
    assert era("forbid-changed").later_than(era("false-refusal"))
    assert not era("warn").later_than(era("warn"))


@given(POINTS)
def test_every_point_belongs_to_one_range(point: Point) -> None:
    assert sum(point in part for one in eras() for part in one.ranges) == 1


def test_ranges_meet_end_to_start() -> None:
    parts = sorted((part for one in eras() for part in one.ranges), key=lambda part: part.start)
    assert parts[0].start == (0, 0, 0, 0)
    assert [part.until for part in parts] == [*(part.start for part in parts[1:]), None]
    assert all(part.commits for part in parts[1:])
    assert all(bool(part.applied) == bool(part.merged) for part in parts)
    days = [day for part in parts for day in (part.applied, part.merged) if day]
    assert days == sorted(days)


def test_the_ranges_of_a_property_do_not_meet_and_name_their_commits() -> None:
    assert len({each.name for each in properties()}) == len(properties())
    for each in properties():
        assert all(part.commits for part in each.ranges)
        bounds = [point for part in each.ranges for point in (part.start, part.until) if point]
        assert bounds == sorted(bounds)


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("5.10.251-1", ["silent"]),
        ("2.6.32.71-el6", ["silent"]),
        ("7.3~rc4-1~exp1", ["forbid-changed-l2"]),
        ("7.3.4+deb13-cloud-amd64\n", ["forbid-changed-l2"]),
        ("5.16~rc2-1~exp1", ["warn"]),
        ("v7.0-rc3-12-g0123456789ab", ["forbid-changed-l2"]),
        ("v6.19-rc1-12-g0123456789ab", ["false-refusal", "forbid-changed"]),
        ("4.20.0+", ["silent"]),
        ("6.19.0+", ["forbid-changed", "forbid-changed-l2"]),
        ("6.19.0-rc1-next-20251205", ["false-refusal", "forbid-changed"]),
        ("6.19.0-rc1-next-20251204", ["false-refusal"]),
        ("6.18.0-next-99999999", ["false-refusal"]),
    ],
)
def test_what_a_version_may_be(version: str, names: list[str]) -> None:
    assert [one.name for one, _ in possible(place(version))] == names


def test_a_series_is_all_its_point_releases() -> None:
    assert [one.name for one, _ in possible(series("5.16.0-6-amd64"))] == [
        "forbid-all",
        "false-acceptance",
        "forbid-changed",
    ]
    assert [one.name for one, _ in possible(series("6.1"))] == ["forbid-changed"]


def test_a_bound_without_a_candidate_stands_before_all_of_them() -> None:
    assert bound("5.14") < place("5.14-rc1").first < place("5.14-rc2").first < place("5.14").first < bound("5.14.1")
    assert bound("5.16-rc3") == place("5.16.0-rc3").first


@pytest.mark.parametrize(
    ("name", "version", "has"),
    [
        ("reinit", "5.12.16", False),
        ("reinit", "5.12.17", True),
        ("reinit", "5.13.0", False),
        ("reinit", "5.13.2", True),
        ("reinit", "5.14-rc1", True),
        ("reinit", "5.13.0+", None),
        ("leak", "5.16.4", True),
        ("leak", "5.16.5", False),
        ("sgx-kept", "6.4.16", True),
        ("xen-tsc-refused", "6.14.11", True),
        ("xen-tsc-refused", "6.15", False),
        ("nent-written", "6.1.50", False),
        ("nent-written", "6.12.1", True),
    ],
)
def test_properties(name: str, version: str, has: bool | None) -> None:
    assert property_named(name).of(place(version)) is has


def test_a_property_of_some_point_releases_is_unknown_of_the_series() -> None:
    assert property_named("leak").of(series("5.16.0-6-amd64")) is None
    assert property_named("reinit").of(series("5.13.0-52-generic")) is None
    assert property_named("reinit").of(series("5.15.0-113-generic")) is True


@pytest.mark.parametrize("version", ["", "six", "6", "linux-6.12", "99999.1"])
def test_what_is_no_version(version: str) -> None:
    with pytest.raises(UsageError, match="cannot read a kernel version"):
        place(version)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'loud'; known: silent, warn, "):
        era("loud")


def test_commits_on_the_way() -> None:
    changed = era("forbid-changed")
    first = ("c6617c61e8fe", "ee3a5f9e3d9b")
    mended = ("811f95ff9527", "5c89be1dd5cf")
    assert changed.commits_after(era("silent")) == (*first, *mended)
    assert changed.commits_after(era("false-acceptance")) == mended
    assert changed.commits_after(era("false-refusal")) == ("e2b43fb25243",)
    assert changed.commits == (*first, *mended, "e2b43fb25243")


def test_what_ended_an_era() -> None:
    ends = {one.name: one.ended_by() for one in eras()}
    assert ends["silent"] == ("63f5a1909f9e",)
    assert ends["forbid-all"] == ("c6617c61e8fe", "ee3a5f9e3d9b")
    assert ends["false-acceptance"] == ("811f95ff9527", "5c89be1dd5cf")
    assert ends["forbid-changed"] == ("b47b93c15b12",)
    assert ends["false-refusal"] == ("e2b43fb25243",)
    assert ends["forbid-changed-l2"] == ()


def test_promises() -> None:
    table = {one.name: (one.identical, one.pending, one.changed, one.lines, one.defect) for one in eras()}
    assert [one.name for one in eras() if one.flags != one.changed] == ["false-acceptance"]
    assert [one.name for one in eras() if one.leaks] == ["false-acceptance"]
    assert table == {
        "silent": ("accepted", "accepted", "accepted", False, False),
        "warn": ("accepted", "accepted", "accepted", True, False),
        "forbid-all": ("EINVAL", "EINVAL", "EINVAL", False, False),
        "false-acceptance": ("accepted", "accepted", "EINVAL", False, True),
        "forbid-changed": ("accepted", "accepted", "EINVAL", False, False),
        "false-refusal": ("accepted", "EINVAL", "EINVAL", False, True),
        "forbid-changed-l2": ("accepted", "accepted", "EINVAL", False, False),
    }


def test_the_ranges_of_releases() -> None:
    texts = {one.name: [part.text for part in one.releases] for one in eras()}
    assert texts["silent"] == ["before 5.14"]
    assert texts["warn"] == ["5.14 until 5.16"]
    assert texts["false-acceptance"] == ["5.16.3 until 5.16.5"]
    assert texts["forbid-changed"] == ["5.16.5 until 6.15", "6.18.3 until 7.0"]
    assert texts["false-refusal"] == ["6.15 until 6.18.3"]
    assert texts["forbid-changed-l2"] == ["7.0 and later"]
