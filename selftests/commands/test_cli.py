"""The command line: exit codes, one line for each failure, nothing heavy imported by the doctor."""

import argparse
import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.commands import cli
from cpuidlab.kernels import catalogue


def failing(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(_options: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("no such host"), 2, "cpuidlab: no such host"),
        (LabError("the VM was lost", evidence="long\nstory"), 125, "cpuidlab: the VM was lost"),
        (KeyboardInterrupt(), 130, "cpuidlab: interrupted"),
        (RecursionError("too\ndeep"), 125, "cpuidlab: RecursionError: too deep (test_cli.py:"),
        (OSError(errno.ENOSPC, "no room"), 125, "free some room where the cache"),
    ],
)
def test_a_failure_is_one_line_and_its_exit_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.RUN, "doctor", failing(error))
    assert cli.main(["doctor"]) == code
    said = capsys.readouterr()
    assert line in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["doctor", "--nonsense"], ["sweep", "--to", __file__]])
def test_bad_arguments_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2


def test_kernels_shows_each_build_with_its_predicted_era_and_its_lack(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usable = catalogue.CatalogueRow("5.10", "5.10.0-46-cloud-amd64", "5.10.262-1", "some-suite", cached=True, lack=None)
    lacking = catalogue.CatalogueRow("7.0", "7.0.4", "7.0.4-1", "some-suite", cached=False, lack="no modules package")
    asked = []

    def listed(refresh: bool) -> list[catalogue.CatalogueRow]:
        asked.append(refresh)
        return [usable, lacking]

    monkeypatch.setattr(catalogue, "catalogue", listed)
    assert cli.main(["kernels", "--refresh"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "silent" in first and "upstream version" in first
    assert first.endswith(" cached")
    assert second.endswith("no modules package")
    assert cli.main(["kernels", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["kernels"]
    assert [row["predicted"] for row in rows] == ["silent", "forbid-changed-l2"]
    reasons = [row["why"].partition(" (")[0] for row in rows]
    assert reasons == ["upstream range before 5.14", "upstream range 7.0 and later"]
    assert asked == [True, False]


def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path) -> None:
    program = (
        "import sys; from cpuidlab.commands import cli; cli.RUN['doctor'] = lambda _: print('x' * 99999) or 0; "
        "sys.exit(cli.main(['doctor']))"
    )
    errors = tmp_path / "errors"
    with errors.open("w") as file:
        running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=file)
        assert running.stdout is not None
        running.stdout.close()
        assert running.wait(timeout=20) == 0
    assert errors.read_text() == ""


def imported_by(module: str) -> set[str]:
    program = f"import sys; from cpuidlab.commands import cli, {module}; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    return {name.split(".")[0] for name in names}


def test_the_doctor_imports_nothing_heavy() -> None:
    assert not {"avocado", "paramiko", "rich", "jinja2", "qemu"} & imported_by("doctor")


def test_the_shell_starts_its_machine_before_it_imports_what_is_heavy() -> None:
    assert not {"avocado", "paramiko", "cryptography", "rich", "jinja2", "qemu", "asyncio"} & imported_by("shell")
