"""guests/readout.c, built and run here as in the VMs."""

import subprocess
from pathlib import Path

import pytest
from cpuidlab.base.paths import GUESTS


@pytest.fixture(scope="module")
def readout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("readout") / "readout"
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-o", program, GUESTS / "readout.c"], check=True)
    return program


def test_each_file_stands_behind_its_name(readout: Path, tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 20000)
    words = [f"long={tmp_path}/long", f"missing={tmp_path}/missing", "null=/dev/null"]
    said = subprocess.run([readout, *words], check=True, capture_output=True).stdout
    assert said == b"\x1elong\n" + b"x" * 20000 + b"\x1emissing\n\x1enull\n"


def test_a_word_without_path_is_refused(readout: Path) -> None:
    assert subprocess.run([readout, "log"], check=False, capture_output=True).returncode == 2


def test_output_that_is_lost_is_no_success(readout: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([readout, "passwd=/etc/passwd"], check=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
