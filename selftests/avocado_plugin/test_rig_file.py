"""What a test leaves of its rig, and what all rigs of a job come to."""

from pathlib import Path

import pytest
from cpuidlab.avocado_plugin import rig_file
from cpuidlab.rig.rig import GuestStart, RigFacts

RESTORED = RigFacts(GuestStart.RESTORED, 8.2, 1.9, settings=("npt is back", "nx_huge_pages is back"))
BOOTED = RigFacts(GuestStart.BOOTED, 8.2, trouble="no room")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    for name, text in rig_file.files_of(RESTORED).items():
        (tmp_path / name).write_text(text)
    assert rig_file.read(tmp_path) == RESTORED
    assert (tmp_path / "settings.txt").read_text() == "npt is back\nnx_huge_pages is back\n"
    assert rig_file.files_of(BOOTED).keys() == {"rig.json"}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"guest": "warmed", "settings": []}', '{"guest": "booted"}'])
def test_a_file_that_is_not_whole_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "rig.json").write_text(text)
    assert rig_file.read(tmp_path) is None
    assert rig_file.read(tmp_path / "none") is None


def test_rigs_are_counted() -> None:
    rigs = [RESTORED, BOOTED, RESTORED]
    assert rig_file.guests(rigs) == "booted for 1 test, restored for 2 tests"
    assert rig_file.troubles(rigs) == "no room"
    assert rig_file.settings(rigs) == "npt is back (2 tests); nx_huge_pages is back (2 tests)"
    assert [rig_file.guests([]), rig_file.troubles([]), rig_file.settings([])] == ["", "", ""]
