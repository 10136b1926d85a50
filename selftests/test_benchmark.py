"""The benchmark's arithmetic, and that its floor starts the very machine that the lab starts."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.paths import PROJECT
from cpuidlab.rig import qemu_command, vm_process
from cpuidlab.rig.host_machine import Boot
from cpuidlab.rig.host_qemu import ACCEL, CPU, HostQemu
from cpuidlab.rig.host_vm import QemuMachine
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(PROJECT / "benchmarks"))
import figures
import floor
import run as benchmark

PAIRS = st.lists(st.tuples(st.floats(0.01, 1e3), st.floats(0.01, 1e3)), min_size=1, max_size=9)
HIGHER = figures.Ratio("up", "cold / restored", "cold", "restored", 8.0, "higher")
LOWER = figures.Ratio("down", "ours / floor", "ours", "floor", 2.5)


def test_a_figure_is_median_over_median_with_the_extremes_of_the_pairs() -> None:
    found = figures.figure(HIGHER, {"cold": [20.0, 30.0, 90.0], "restored": [2.0, 3.0, 1.0]})
    assert (found.value, found.low, found.high, found.repetitions) == (15.0, 10.0, 90.0, 3)


@given(PAIRS)
def test_a_figure_lies_within_its_spread(pairs: list[tuple[float, float]]) -> None:
    over, under = ([pair[side] for pair in pairs] for side in (0, 1))
    found = figures.figure(LOWER, {"ours": over, "floor": under})
    assert found.low * (1 - 1e-9) <= found.value <= found.high * (1 + 1e-9)


@pytest.mark.parametrize(("cold", "met"), [(16.0, True), (15.9, False)])
def test_a_speed_up_must_reach_its_target(cold: float, met: bool) -> None:
    assert figures.figure(HIGHER, {"cold": [cold], "restored": [2.0]}).met is met


@pytest.mark.parametrize(("ours", "met"), [(2.5, True), (2.6, False)])
def test_an_overhead_must_stay_at_its_target(ours: float, met: bool) -> None:
    assert figures.figure(LOWER, {"ours": [ours], "floor": [1.0]}).met is met


@pytest.mark.parametrize("seconds", [
    {"ours": [1.0, 2.0], "floor": [1.0]}, {"ours": [], "floor": []}, {"ours": [1.0], "floor": [0.0]},
])  # fmt: skip
def test_measurements_that_do_not_match_are_no_figure(seconds: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match=r"zip|above zero"):
        figures.figure(LOWER, seconds)


def test_the_tables_name_misses_and_the_json_holds_everything() -> None:
    seconds = {"ours": [3.0, 4.0, 5.0], "floor": [1.0, 1.0, 1.0]}
    found = [figures.figure(LOWER, seconds)]
    assert "at most 2.5: MISSED" in figures.as_text(found, seconds)
    data = json.loads(json.dumps(figures.as_json(found, seconds, {"cores": 2})))
    [ratio] = data["ratios"]
    assert (ratio["name"], ratio["value"], ratio["low"], ratio["high"], ratio["met"]) == ("down", 4.0, 3.0, 5.0, False)
    assert data["seconds_on_this_machine"]["ours"] == {"median": 4.0, "min": 3.0, "max": 5.0, "all": [3.0, 4.0, 5.0]}


def test_a_cold_boot_is_compared_with_each_restore_of_its_own_repetition() -> None:
    measured = benchmark.Benchmark.__new__(benchmark.Benchmark)
    measured.seconds = {benchmark.COLD_SSH: [10.0, 20.0], benchmark.RESTORE_SSH: [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]}
    assert measured.per_ratio()[benchmark.COLD_SSH] == [10.0] * 3 + [20.0] * 3
    assert measured.seconds[benchmark.COLD_SSH] == [10.0, 20.0]


class StartError(Exception):
    """Stands in for QEMU's start."""


@pytest.fixture
def lab_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """The command line with which the lab restores, and the descriptors of memory, console and QMP in it."""
    started: list[Any] = []

    def spawn(*words: Any) -> None:
        started.extend(words)
        raise StartError

    monkeypatch.setattr(vm_process, "spawn", spawn)
    monkeypatch.setattr(qemu_command, "qemu_for", lambda _: HostQemu("qemu-of-the-lab", Path("/q")))
    (tmp_path / "ram").touch()
    with pytest.raises(StartError):
        QemuMachine.restore("host", Boot(Path("/k/vmlinuz"), None, "", ACCEL, CPU), tmp_path, Deadline.after(1))
    yield started[0], started[1]


def test_the_floor_is_the_lab_s_own_machine(lab_command: tuple[list[str], tuple[int, ...]]) -> None:
    command, descriptors = lab_command
    assert floor.command("qemu-of-the-lab", Path("/k/vmlinuz"), *descriptors) == command


def test_the_floor_knows_nothing_of_the_lab() -> None:
    source = (PROJECT / "benchmarks" / "floor.py").read_text()
    assert not re.findall(r"^\s*(?:from|import) (?:cpuidlab|run|figures).*", source, re.MULTILINE)
