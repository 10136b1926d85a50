"""The files of the project's tree that no program reads in a test: package list, Makefile, shell scripts, CI."""

import re
import subprocess

import pytest
from cpuidlab.base.paths import PROJECT


def test_each_package_line_is_names_with_bars_between() -> None:
    lines = [line.partition("#")[0].strip() for line in (PROJECT / "tooling/packages.txt").read_text().splitlines()]
    names = [line for line in lines if line]
    assert all(re.fullmatch(r"[a-z0-9.+-]+( \| [a-z0-9.+-]+)*", name) for name in names)
    assert len(names) == len(set(names))


def test_ci_calls_make_check_and_nothing_else() -> None:
    assert (PROJECT / ".ci/run").read_text().splitlines()[-1] == "exec make check"


def test_every_target_of_the_makefile_is_explained() -> None:
    shown = subprocess.run(["make", "-C", PROJECT, "help"], capture_output=True, text=True, check=True).stdout
    for target in ("setup", "run", "check", "lint", "types", "selftests", "smoke", "benchmark", "clean", "doctor"):
        assert f"make {target} " in shown


def test_every_shell_script_is_linted() -> None:
    """The Makefile finds scripts by their first line; this looks at the names that `make -n lint` then shows."""
    plan = subprocess.run(["make", "-C", PROJECT, "-n", "lint"], capture_output=True, text=True, check=True).stdout
    assert {"tooling/setup.sh", ".ci/run"} <= set(plan.split())


# A reader that may end before its writer: the writer dies by SIGPIPE, and under pipefail the pipeline has failed.
EARLY_READER = re.compile(
    r"\|\s*(grep\s+(-\w*[qm]|--quiet|--max)|head\b|sed\s[^|]*[\d ;{}]q\b|awk\s[^|]*\bexit\b|read\b)"
)


def test_no_reader_ends_before_its_writer() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.split()
    shell = [PROJECT / "Makefile"]
    shell += [PROJECT / name for name in tracked if name.startswith(("guests/", "tooling/", ".ci/", "selftests/"))]
    shell = [path for path in shell if path.is_file()]  # a file that was just removed is still tracked
    for path in shell:
        lines = path.read_text(errors="replace").splitlines() or [""]
        if path.name == "Makefile" or re.match(r"#!.*\b(ba|da)?sh\b", lines[0]) or path.name.startswith("rc"):
            early = [line for line in lines if EARLY_READER.search(line.partition("# ")[0])]
            assert not early, f"{path}: {early[0].strip()}"


@pytest.mark.parametrize("line", ["a | grep -q b", "a | head -n 1", "a | grep -m1 b", "a |sed 2q", "a | read -r b"])
def test_a_reader_that_ends_early_is_found(line: str) -> None:
    assert EARLY_READER.search(line)
