"""What a machine takes for a rig and a cell: measured, weighed with what was known, kept for the next job."""

import json
from pathlib import Path

import pytest
from cpuidlab.base import speed
from cpuidlab.base.speed import CELL, DEFAULTS, KNOWN_WEIGHT, RIG, Speed


@pytest.fixture
def file(cache: Path) -> Path:
    """Where an empty cache will keep what was measured."""
    return cache / "speed.json"


def test_where_nothing_was_measured_the_default_counts() -> None:
    assert speed.read().seconds(RIG) == DEFAULTS[RIG]
    assert not speed.read().is_measured(RIG)


def test_what_a_job_measures_outweighs_what_was_known_more_and_more() -> None:
    known = Speed({RIG: 10.0})
    for _ in range(KNOWN_WEIGHT):
        known.took(RIG, 20.0)
    assert known.seconds(RIG) == 15.0
    for _ in range(1000):
        known.took(RIG, 20.0)
    assert known.seconds(RIG) == pytest.approx(20.0, abs=0.1)


def test_the_next_job_knows_what_this_one_measured() -> None:
    this = Speed({RIG: 10.0})
    for _ in range(20):
        this.took(CELL, 4.0)
    this.took(RIG, 99.0)  # one alone tells little
    this.took("probes", 1.0)
    speed.keep(this)
    assert speed.read().known == {CELL: 4.0, RIG: 10.0}
    assert speed.read().is_measured(CELL)


def test_another_machine_with_the_same_cache_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    speed.keep(Speed({RIG: 10.0}))
    monkeypatch.setattr(speed, "machine", lambda: "64 x another")
    assert speed.read().known == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"machine": 1}', '{"machine": "x", "seconds": {"rigs": "many"}}'])
def test_half_a_file_is_none(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    assert speed.read().known == {}


def test_a_cache_that_may_not_be_written_does_as_well(file: Path) -> None:
    file.parent.write_text("no folder")
    speed.keep(Speed({RIG: 10.0}))


def test_the_file_names_the_machine(file: Path) -> None:
    speed.keep(Speed({RIG: 10.0}))
    assert json.loads(file.read_text())["machine"] == speed.machine()
    assert [path.name for path in file.parent.iterdir()] == ["speed.json"]
