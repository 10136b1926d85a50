"""The longer story of a failure goes to a file, and never makes things worse."""

from pathlib import Path

from cpuidlab.base import error_text
from cpuidlab.base.errors import LabError


def test_evidence_goes_to_a_file_that_the_line_names(cache: Path) -> None:
    cache.mkdir()
    line = error_text.told(LabError("it broke", "the console"))
    assert line.startswith("it broke; more in ")
    assert "the console" in Path(line.rpartition(" ")[2]).read_text()


def test_an_unusable_cache_leaves_the_line() -> None:
    assert error_text.told(LabError("it broke", "the console")) == "it broke"
    assert error_text.told(LabError("it broke")) == "it broke"
