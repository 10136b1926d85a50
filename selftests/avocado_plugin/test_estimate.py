"""What a job says that it will do: the product of hosts, modes and tests, what is not in the cache, about how long."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cpuidlab.avocado_plugin import estimate
from cpuidlab.avocado_plugin.estimate import (
    HEADERS_MB,
    KERNEL_MB,
    LIST_MB,
    RELEASE_LIST_MB,
    SOURCE_MB,
    Outlook,
    outlook,
)
from cpuidlab.base import artifacts
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.speed import CELL, KERNEL, PATCHED, RIG, Speed
from cpuidlab.kernels import debian, lookup
from cpuidlab.rig import bochs, host_config
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.host_qemu import FETCHED, FETCHED_MB
from cpuidlab.rig.snapshots import RIGS

KNOWN = {CELL: 4.0, RIG: 30.0, KERNEL: 10.0, PATCHED: 50.0}
JOB = Outlook(("5.10", "6.1"), ("npt", "shadow"), 30, False, (), (), 0, 0, 12)


@pytest.fixture(autouse=True)
def _own_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "emulator", lambda _: None)


def nothing_is_made(name: str) -> Callable[..., object]:
    def find(*words: Any) -> object:
        label = "-".join([*(str(getattr(word, "name", word)) for word in words), name])
        return artifacts.made(RIGS, label, {}, lambda _: pytest.fail("it was only to be looked for"))

    return find


@pytest.fixture
def kernels_there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All kernels are in the cache, no rigs."""
    monkeypatch.setattr(lookup, "known", lambda base, own=True: SimpleNamespace(release=f"{base}.0"))
    monkeypatch.setattr(host_config, "setup", lambda spec, mode, _: SimpleNamespace(name=f"{spec}-{mode}"))
    monkeypatch.setattr(estimate, "host_snapshot", nothing_is_made("host"))
    monkeypatch.setattr(estimate, "guest_snapshot", nothing_is_made("guest"))
    for kind in ("kbuild", "headers"):
        for release in ("5.10.0", "6.1.0"):
            (cache / kind / f"{release}-{'0' * 20}").mkdir(parents=True)


def make_rig(label: str) -> None:
    artifacts.made(RIGS, label, {}, lambda _: None)


def test_an_empty_cache_needs_everything() -> None:
    found = outlook("5.10,5.10+warning", "npt,shadow", 10)
    assert (found.hosts, found.pagings, found.cells) == (("5.10", "5.10+warning"), ("npt", "shadow"), 40)
    assert (found.kernels, found.sources, found.patched, found.rigs) == (("5.10", "6.1"), ("5.10",), 1, 12)
    lists = LIST_MB + RELEASE_LIST_MB + LIST_MB  # 5.10's own suite, 6.1's two
    assert found.megabytes == 2 * KERNEL_MB + SOURCE_MB + 2 * HEADERS_MB + lists


@pytest.mark.usefixtures("kernels_there")
def test_what_is_in_the_cache_is_neither_fetched_nor_made() -> None:
    found = outlook("5.10,5.10+warning", "npt", 10)
    assert (found.kernels, found.sources, found.megabytes, found.rigs) == ((), (), 0, 6)
    make_rig("5.10-npt-host")
    assert outlook("5.10", "npt", 10).rigs == 2
    make_rig("5.10-npt-small-guest")
    assert outlook("5.10", "npt", 10).rigs == 1
    assert outlook("5.10", "npt", 10, cold=True).rigs == 0


@pytest.mark.usefixtures("kernels_there")
def test_half_a_build_tree_is_none(cache: Path) -> None:
    tree = cache / f"headers/6.1.0-{'0' * 20}"
    tree.rename(tree.with_name(f"{tree.name}.partial"))
    tree.with_name(f"{tree.name}.lock").touch()
    assert outlook("5.10", "npt", 10).megabytes == HEADERS_MB


@pytest.mark.usefixtures("kernels_there")
@pytest.mark.parametrize("error", [LabError("no"), UsageError("no"), OSError("no")])
def test_what_cannot_be_looked_at_counts_as_not_there(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(host_config, "setup", fails)
    assert outlook("5.10", "npt", 10).rigs == estimate.RIGS == 1 + len(PROFILES)


@pytest.mark.parametrize(("hosts", "paging"), [("foo", "npt"), ("", "npt"), ("5.10", " , "), ("5.10", "ept")])
def test_what_the_plan_will_refuse_is_refused(hosts: str, paging: str) -> None:
    with pytest.raises(UsageError):
        outlook(hosts, paging, 10)


@pytest.mark.usefixtures("kernels_there")
def test_a_qemu_that_is_to_be_fetched_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "emulator", lambda _: artifacts.made(FETCHED, "bookworm", {}, lambda _: None))
    assert outlook("5.10", "npt", 10).megabytes == FETCHED_MB
    artifacts.made(FETCHED, "bookworm", {}, lambda _: None)
    assert outlook("5.10", "npt", 10).megabytes == 0


@pytest.mark.usefixtures("kernels_there")
def test_bochs_that_is_to_be_built_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "emulator", lambda _: artifacts.made(bochs.BUILDS, "3.0", {}, lambda _: None))
    assert outlook("5.10", "ept", 10, accel="bochs").megabytes == bochs.FETCHED_MB


def test_only_looking_ends_with_its_context() -> None:
    with artifacts.only_looking(), pytest.raises(artifacts.NotMadeError):
        make_rig("x")
    make_rig("x")
    with artifacts.only_looking():
        make_rig("x")  # it is there


def test_rigs_and_cells_share_the_machine_and_kernels_come_one_by_one() -> None:
    slow = Speed(KNOWN)
    assert JOB.seconds(slow, 1) == 12 * 30 + 120 * 4
    assert JOB.seconds(slow, 2) == (12 * 30 + 120 * 4) / 2
    assert replace(JOB, kernels=("5.10",), patched=2).seconds(slow, 2) == JOB.seconds(slow, 2) + 10 + 2 * 50
    one = replace(JOB, hosts=("5.10",), pagings=("npt",), tests=1, rigs=0)
    assert one.seconds(slow, 8) == 4.0  # one cell is not spread over eight cores


def test_real_machines_work_side_by_side() -> None:
    speed = Speed(KNOWN)
    real = replace(JOB, hosts=("ssh://a", "ssh://b"), rigs=0)
    assert real.seconds(speed, 8) == 60 * 4 / 2  # two modes of one machine; the other works meanwhile
    assert "on this machine: one at a time on each real machine, with 4 s a cell" in real.lines(speed, 8)[-1]
    both = replace(JOB, hosts=("ssh://a", "6.1"))
    assert both.seconds(speed, 1) == 12 * 30 + 60 * 4
    assert ": 2 at a time, one at a time on each real machine, with 30 s a rig" in both.lines(speed, 2)[-1]


def test_the_lines() -> None:
    assert JOB.lines(Speed(KNOWN), 2) == [
        "2 hosts (5.10, 6.1) x npt and shadow x 30 tests = 120 cells",
        "to fetch: nothing",
        "to make: 12 rigs (hosts, and guests on them, booted once and kept)",
        "about 7 minutes on this machine: 2 at a time, with 30 s a rig and 4 s a cell (as the last job here took)",
    ]
    first = replace(JOB, hosts=("5.10", "5.10+warning"), kernels=("5.10", "6.1"), sources=("5.10",), megabytes=261)
    assert first.lines(Speed({}), 2)[1] == (
        "to fetch: kernels 5.10, 6.1 (the guests'), KVM's source of 5.10; about 261 MB"
    )
    assert first.lines(Speed({}), 2)[3].endswith("(guessed: no job on this machine has measured them yet)")
    many = replace(JOB, hosts=tuple(f"6.{number}" for number in range(1, 20)), rigs=0)
    text = "\n".join(many.lines(Speed({CELL: 4.0}), 2, resumes=True))
    assert "19 hosts (6.1 to 6.19, 19 in all)" in text
    assert "to make: nothing" in text
    assert "at most about 38 minutes on this machine, less for what is kept of the job that is resumed: 2 at" in text
    assert "with 4 s a cell (as the last job here took)" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "about a minute"), (89, "about a minute"), (100, "about 2 minutes"), (8000, "about 2 h 13 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert estimate.duration(seconds) == text


def test_a_known_kernel_is_found_without_a_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lookup.known("newest") is None
    pins = cache / "kernels/pins"
    pins.mkdir(parents=True)
    (pins / "newest").write_text("7.3")
    found = partial(lookup.known, "newest")
    assert found() is None
    monkeypatch.setattr(debian, "pinned", lambda base, own: base)
    assert found() == "7.3"
