"""Bochs's command line, and the file that describes its machines."""

import re
from pathlib import Path

import pytest
from cpuidlab.rig import bochs_command
from cpuidlab.rig.bochs import Bochs
from cpuidlab.rig.bochs_command import MACHINE, Files

BUILD = Bochs(Path("/cache/bochs"))
FILES = Files(3, 4, 5, 6, 7, 8)


def test_each_variable_of_the_machine_is_set() -> None:
    text = "".join(line for line in MACHINE.read_text().splitlines(keepends=True) if not line.startswith("#"))
    wanted = set(re.findall(r"\$(\w+)", text))
    there = bochs_command.variables(BUILD, "a_model", FILES)
    assert wanted <= set(there)
    assert set(there) - wanted == {"BOCHS_RAM", "BOCHS_CONTROL"}  # of the patch
    assert (there["BIOS"], there["MODEL"], there["MEGS"]) == ("/cache/bochs/BIOS-bochs-latest", "a_model", "1024")


def test_bochs_reads_letters_and_underscores_as_a_name() -> None:
    assert all(re.fullmatch("[A-Z_]+", name) for name in bochs_command.variables(BUILD, "a_model", FILES))
    assert not re.search(
        r'\$\w+"', MACHINE.read_text()
    )  # a quotation mark behind a name would become part of the value


def test_each_descriptor_is_inherited() -> None:
    assert FILES.all == (3, 4, 5, 6, 7, 8)


def test_a_saved_machine_is_restored_from_its_folder() -> None:
    assert bochs_command.words(BUILD) == ["/cache/bochs/bochs", "-q", "-f", str(MACHINE)]
    assert bochs_command.words(BUILD, Path("/saved")) == ["/cache/bochs/bochs", "-q", "-r", "/saved"]


def test_another_build_model_or_machine_makes_another_snapshot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def identity(model: str = "a", build: str = "3.0-one", machine: str = "megs: 1") -> str:
        (tmp_path / "bochsrc").write_text(machine)
        monkeypatch.setattr(bochs_command, "MACHINE", tmp_path / "bochsrc")
        monkeypatch.setattr(bochs_command, "bochs", lambda: Bochs(Path(build)))
        return bochs_command.identity(model)

    usual = identity()
    assert usual not in {identity("b"), identity(build="3.0-two"), identity(machine="megs: 2")}
    assert identity() == usual
