"""Set-up from a bare machine: tooling/setup.sh run in a copy of the frame, with fake apt, dpkg, sudo and Python."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cpuidlab.base.paths import PROJECT

FRAME = ["tooling/setup.sh", "tooling/packages.txt", "tooling/requirements.lock", "setup.cfg", "pyproject.toml"]
REAL = ["bash", "dirname", "sed", "grep", "paste", "cat", "readlink", "sha256sum", "flock", "tee", "tail", "env",
        "mkdir", "ln", "rm", "touch", "cp", "chmod"]  # fmt: skip
ALL_INSTALLED = (
    """for name in $(sed 's/#.*//; s/|/ /g' tooling/packages.txt); do printf ' installed=%s ' "$name"; done"""
)
# A Python that can make an environment; the pip of that environment notes what it was asked for.
PYTHON = """case "$1 $2" in
"-m venv") mkdir -p .venv/bin; rm -f .venv/stamp*; cp "$0" .venv/bin/python ;;
"-m pip") echo "$@" >>pip-calls; echo "Collecting thing==1" ;;
esac"""


class Machine:
    """A copy of the frame, and a PATH on which only a few real programs and the fakes are."""

    def __init__(self, folder: Path) -> None:
        self.project, self.programs = folder / "project", folder / "programs"
        self.programs.mkdir()
        for name in FRAME:
            (self.project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, self.project / name)
        for name in REAL:
            (self.programs / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name} here"))
        self.has("id", "echo 0")
        self.has("dpkg-query", ALL_INSTALLED)
        self.has("apt-cache", "echo Candidate: 1.0")
        self.has("apt-get", 'echo "$@" >>apt-calls')
        self.has("python3", PYTHON)

    def has(self, name: str, script: str) -> None:
        (self.programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (self.programs / name).chmod(0o755)

    def setup(self, step: str = "all") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["tooling/setup.sh", step], cwd=self.project, env={"PATH": str(self.programs)}, text=True,
            capture_output=True, stdin=subprocess.DEVNULL, timeout=20, check=False,
        )  # fmt: skip

    def noted(self, name: str) -> list[str]:
        path = self.project / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def fails_in_one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line a failed set-up says beside its progress."""
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    return line


def test_a_second_setup_does_nothing_and_is_quick(machine: Machine) -> None:
    assert machine.setup().returncode == 0
    calls = machine.noted("pip-calls")
    assert [("--require-hashes" in call, "--no-build-isolation" in call) for call in calls] == [
        (True, False), (False, True)
    ]  # fmt: skip
    seconds = []
    for _ in range(3):  # the machine may be busy with something else
        started = time.monotonic()
        done = machine.setup()
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.3
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.noted("pip-calls") == calls
    assert machine.noted("apt-calls") == []


def test_only_content_makes_a_step_run_again(machine: Machine) -> None:
    machine.setup()
    (machine.project / "setup.cfg").touch()
    machine.setup()
    assert len(machine.noted("pip-calls")) == 2
    (machine.project / "setup.cfg").write_text("[metadata]\nname = other\n")
    machine.setup()
    assert len(machine.noted("pip-calls")) == 3
    (machine.project / "tooling/requirements.lock").write_text("other==1\n")
    machine.setup()
    assert len(machine.noted("pip-calls")) == 5


def test_missing_packages_are_announced_and_installed(machine: Machine) -> None:
    machine.has("dpkg-query", f"({ALL_INSTALLED}) | sed 's/ installed=cpuid //'")
    done = machine.setup("packages")
    assert done.returncode == 0
    assert "installing system packages: cpuid\n" in done.stderr
    assert [call.split()[-1] for call in machine.noted("apt-calls")] == ["cpuid"]


def test_a_removed_package_is_missing(machine: Machine) -> None:
    machine.has("dpkg-query", f"({ALL_INSTALLED}) | sed 's/ installed=cpuid / config-files=cpuid /'")
    assert machine.setup("missing").stdout == "cpuid\n"


WITHOUT_DRACUT = f"({ALL_INSTALLED}) | sed 's/ installed=dracut-[a-z]* //g'"
# As apt prints it: the line that is looked for, and then more than a pipe holds. A reader that has ended kills it.
LONG_POLICY = """for name in "${@:2}"; do
    [[ " $KNOWN " == *" $name "* ]] || continue
    printf '%s:\\n  Installed: (none)\\n  Candidate: 1.0\\n  Version table:\\n' "$name"
    for ((i = 0; i < 16384; i++)); do printf '%063d\\n' "$i"; done
done"""


def test_of_alternatives_one_that_is_installed_is_enough(machine: Machine) -> None:
    machine.has("dpkg-query", f"({ALL_INSTALLED}) | sed 's/ installed=dracut-install //'")
    assert machine.setup("missing").stdout == ""


@pytest.mark.parametrize(
    ("known", "chosen"),
    [
        ("dracut-install", "dracut-install"),
        ("dracut-core", "dracut-core"),
        ("dracut-install dracut-core", "dracut-install"),
        ("", "dracut-install"),
    ],
    ids=["first", "second", "both", "none"],
)
def test_of_alternatives_the_first_that_apt_knows_is_chosen(machine: Machine, known: str, chosen: str) -> None:
    machine.has("dpkg-query", WITHOUT_DRACUT)
    machine.has("apt-cache", f"KNOWN='{known}'\n{LONG_POLICY}")
    assert machine.setup("missing").stdout == f"{chosen}\n"


def test_alternatives_are_chosen_anew_where_the_package_lists_were_empty(machine: Machine) -> None:
    machine.has("dpkg-query", WITHOUT_DRACUT)
    machine.has("apt-cache", f"[[ ! -e apt-calls ]] || KNOWN=dracut-core\n{LONG_POLICY}")
    assert machine.setup("packages").returncode == 0
    assert [call.split()[-1] for call in machine.noted("apt-calls")] == ["update", "dracut-core"]


def test_a_package_that_apt_names_and_cannot_install_is_not_available(machine: Machine) -> None:
    machine.has("dpkg-query", WITHOUT_DRACUT)
    machine.has("apt-cache", "[[ $2 == dracut-core ]] && echo 'Candidate: 1.0' || echo 'Candidate: (none)'")
    assert machine.setup("missing").stdout == "dracut-core\n"


def test_apt_is_asked_in_its_own_language(machine: Machine) -> None:
    machine.has("dpkg-query", WITHOUT_DRACUT)
    machine.has("apt-cache", "[[ $LC_ALL == C && $2 == dracut-core ]] && echo 'Candidate: 1.0'")
    assert machine.setup("missing").stdout == "dracut-core\n"


def test_package_lists_are_updated_only_where_apt_does_not_know_a_package(machine: Machine) -> None:
    machine.has("dpkg-query", f"({ALL_INSTALLED}) | sed 's/ installed=cpuid //'")
    machine.has("apt-cache", "[[ -e apt-calls ]] && echo Candidate: 1.0; true")
    machine.setup("packages")
    assert [call.split()[0] for call in machine.noted("apt-calls")] == ["update", "install"]


def test_without_root_and_sudo_the_exact_command_is_told(machine: Machine) -> None:
    machine.has("id", "echo 1000")
    machine.has("dpkg-query", f"({ALL_INSTALLED}) | sed 's/ installed=cpuid //'")
    line = fails_in_one_line(machine.setup())
    assert line.endswith("apt-get install -y --no-install-recommends cpuid")
    machine.has("sudo", "exit 1")
    line = fails_in_one_line(machine.setup())
    assert "there is no terminal" in line
    assert line.endswith("sudo apt-get install -y --no-install-recommends cpuid")
    assert machine.noted("apt-calls") == []
    machine.has("sudo", '[[ $1 == -n ]] && exit; echo sudo >>sudo-calls; exec "$@"')
    assert machine.setup().returncode == 0
    assert machine.noted("sudo-calls") == ["sudo"]


def test_no_debian(machine: Machine) -> None:
    (machine.programs / "dpkg-query").unlink()
    assert "no Debian or Ubuntu" in fails_in_one_line(machine.setup())


def test_an_old_python_is_named(machine: Machine) -> None:
    old = f'exec {sys.executable} -c "import sys; sys.version_info = (3, 10, 12); $2"'
    machine.has("python3", f"[[ $1 != -V ]] || {{ echo Python 3.10.12; exit; }}\n{old}")
    assert "Python 3.11 or newer is needed, python3 is Python 3.10.12" in fails_in_one_line(machine.setup())


def test_a_python_without_venv(machine: Machine) -> None:
    machine.has("python3", "[[ $2 != *ensurepip* ]]")
    assert "has no venv module" in fails_in_one_line(machine.setup())


def test_a_pip_that_fails_is_one_line_and_the_next_good_run_works(machine: Machine) -> None:
    broken = PYTHON.replace('echo "Collecting thing==1"', '[[ -e mended ]] || { echo "ERROR: no network"; exit 1; }')
    machine.has("python3", broken)
    line = fails_in_one_line(machine.setup())
    assert "pip failed: ERROR: no network" in line
    (machine.project / "mended").touch()
    assert machine.setup().returncode == 0


def test_an_unknown_step(machine: Machine) -> None:
    assert "unknown step 'nonsense'" in fails_in_one_line(machine.setup("nonsense"))


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
    for path in shell:
        lines = path.read_text(errors="replace").splitlines() or [""]
        if path.name == "Makefile" or re.match(r"#!.*\b(ba|da)?sh\b", lines[0]) or path.name.startswith("rc"):
            early = [line for line in lines if EARLY_READER.search(line.partition("# ")[0])]
            assert not early, f"{path}: {early[0].strip()}"


@pytest.mark.parametrize("line", ["a | grep -q b", "a | head -n 1", "a | grep -m1 b", "a |sed 2q", "a | read -r b"])
def test_a_reader_that_ends_early_is_found(line: str) -> None:
    assert EARLY_READER.search(line)
