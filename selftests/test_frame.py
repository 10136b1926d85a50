"""Set-up from a bare machine: tooling/setup.sh run in a copy of the frame, with fake apt, dpkg, sudo and Python."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from cpuidlab.base.paths import PROJECT

FRAME = ["tooling/setup.sh", "tooling/packages.txt", "tooling/requirements.lock", "setup.cfg", "pyproject.toml"]
REAL = ["bash", "dirname", "sed", "grep", "paste", "cat", "readlink", "sha256sum", "flock", "tail", "wc", "tr", "env",
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

    def begun(self) -> "subprocess.Popen[str]":
        """A set-up in a process group of its own, as a shell begins it."""
        # what a shell starts in the background ignores Ctrl-C, and bash cannot trap what it ignored at its start
        words = [shutil.which("env") or "env", "--default-signal=INT", "tooling/setup.sh"]
        return subprocess.Popen(
            words, cwd=self.project, env={"PATH": str(self.programs)}, text=True, process_group=0,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def noted(self, name: str) -> list[str]:
        path = self.project / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def changing(machine: Machine) -> list[str]:
    """What apt and dpkg were asked to change; how much apt would fetch is only a question."""
    return [call for call in machine.noted("apt-calls") if "--print-uris" not in call]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "too late"
        time.sleep(0.02)


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
    assert [call.split()[-1] for call in changing(machine)] == ["cpuid"]


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
    assert [call.split()[-1] for call in changing(machine)] == ["update", "dracut-core"]


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
    assert [call.split()[-1] for call in changing(machine)] == ["update", "cpuid"]


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


def lacks_cpuid(machine: Machine) -> None:
    machine.has("dpkg-query", f"({ALL_INSTALLED}) | sed 's/ installed=cpuid //'")


# An apt that fetches two packages and has much to say.
APT = """case " $* " in *" --print-uris "*)
    echo "Reading package lists..."
    echo "'http://mirror/a.deb' a.deb 1500000 MD5Sum:0"
    echo "'http://mirror/b.deb' b.deb 700001 SHA256:0"; exit ;;
esac
echo "$@" >>apt-calls
echo "Setting up cpuid"; echo "W: careful" >&2"""


def test_what_apt_and_pip_say_goes_to_the_log_and_the_screen_has_short_lines(machine: Machine) -> None:
    lacks_cpuid(machine)
    machine.has("apt-get", APT)
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    shown = re.sub(r"\d+ s\)", "N s)", done.stderr).splitlines()
    assert shown == [
        "  .. set-up, needed once: all that apt and pip say goes to setup.log",
        "  .. installing system packages: cpuid",
        "     apt fetches 3 MB in 2 packages",
        "  ok system packages (N s)",
        f"  .. installing {packages_locked()} Python packages into .venv: about 40 MB, about a minute",
        "  ok Python packages (N s)",
        "  ok cpuidlab in .venv",
    ]
    log = (machine.project / "setup.log").read_text()
    assert [text for text in ("Setting up cpuid", "W: careful", "Collecting thing==1") if text not in log] == []


def test_what_an_interrupted_run_has_fetched_is_not_fetched_again(machine: Machine) -> None:
    lacks_cpuid(machine)
    assert "     nothing has to be fetched\n" in machine.setup("packages").stderr
    machine.has("apt-get", '[[ $* != *--print-uris* ]] || { echo "E: no idea"; exit 100; }')
    done = machine.setup("packages")
    assert done.returncode == 0
    assert "fetche" not in done.stderr  # it could not tell


def packages_locked() -> int:
    return (PROJECT / "tooling/requirements.lock").read_text().count("==")


def test_a_setup_without_work_leaves_the_log_of_the_last_one(machine: Machine) -> None:
    machine.setup()
    log = (machine.project / "setup.log").read_text()
    machine.setup()
    assert (machine.project / "setup.log").read_text() == log != ""


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("echo Reading; echo E: no room; echo E: all is lost >&2", "no room"),
        ("echo Reading; echo what now", "what now"),
        ("true", "it said nothing"),
    ],
)
def test_an_apt_that_fails_is_one_line_with_its_first_error(machine: Machine, said: str, reason: str) -> None:
    lacks_cpuid(machine)
    machine.has("apt-get", f"{said}; exit 100")
    line = fails_in_one_line(machine.setup())
    assert line.startswith(f"setup: apt-get failed: {reason}; all it said is in setup.log;")


def test_where_apts_lists_could_not_be_fetched_that_is_the_reason(machine: Machine) -> None:
    lacks_cpuid(machine)
    machine.has("apt-cache", "true")
    machine.has("apt-get", '[[ $* == *update ]] && echo "E: no such host" || echo "E: Unable to locate"; exit 100')
    assert "apt-get failed: its lists: no such host;" in fails_in_one_line(machine.setup())


def test_an_installation_that_was_interrupted_is_mended_first(machine: Machine) -> None:
    lacks_cpuid(machine)
    machine.has("dpkg", '[[ $* == --audit ]] && { echo "half configured: cpuid"; exit; }; echo dpkg "$@" >>apt-calls')
    done = machine.setup("packages")
    assert done.returncode == 0
    assert "  .. an installation was interrupted: dpkg --configure -a\n" in done.stderr
    first, second = changing(machine)
    assert first.startswith("dpkg ")
    assert first.endswith(" --configure -a")
    assert second.startswith("install ")
    assert " --fix-broken " in second


def test_it_is_mended_where_only_apt_knows_of_it(machine: Machine) -> None:
    lacks_cpuid(machine)
    machine.has("dpkg", "[[ $* == --audit ]] || touch mended")
    machine.has("apt-get", "[[ -e mended ]] || { echo \"E: you must run 'dpkg --configure -a' to go on\"; exit 100; }")
    done = machine.setup("packages")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("an installation was interrupted") == 1


def test_a_whole_dpkg_is_left_alone(machine: Machine) -> None:
    lacks_cpuid(machine)
    machine.has("dpkg", "[[ $* == --audit ]] || touch mended")
    done = machine.setup("packages")
    assert "interrupted" not in done.stderr
    assert not (machine.project / "mended").exists()


NO_MATCH = "ERROR: No matching distribution found for thing==1"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (NO_MATCH, NO_MATCH),
        (
            "Could not fetch URL https://index/: There was a problem confirming the ssl certificate: HTTPSConnection"
            "Pool(host='index', port=443): Max retries exceeded with url: /thing/ (Caused by SSLError("
            "SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed"
            " certificate (_ssl.c:1002)')))"
            f" - skipping\n{NO_MATCH}",
            "SSLError: certificate verify failed: self-signed certificate (_ssl.c:1002)",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip.C at 0x7>:"
            " Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /thing/\n"
            + NO_MATCH,
            "NewConnectionError: Temporary failure in name resolution",
        ),
        (
            "WARNING: Retrying (Retry(0)) after connection broken by 'ReadTimeoutError(\"timed out (15)\")': /t/\n"
            + NO_MATCH,
            'ReadTimeoutError: "timed out (15)',
        ),
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'ProtocolError('x')': /thing/\n"
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES",
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES",
        ),
    ],
)
def test_a_pip_that_fails_names_the_cause(machine: Machine, said: str, reason: str) -> None:
    (machine.project / "said").write_text(said)
    machine.has("python3", PYTHON.replace('echo "Collecting thing==1"', "cat said; exit 1"))
    line = fails_in_one_line(machine.setup())
    assert line.startswith(f"setup: pip failed: {reason}")
    assert line.endswith("all it said is in setup.log; mend that, then run 'make setup' again")


def group_of(leader: int) -> Iterator[psutil.Process]:
    """The processes that live in that group."""
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                yield process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["apt", "venv", "pip"])
def test_a_setup_that_is_interrupted_leaves_no_child_and_the_next_one_goes_on(
    machine: Machine, where: str, number: signal.Signals
) -> None:
    hang = ": >hangs; exec sleep 60"  # no program that could end by itself just when the signal comes
    if where == "apt":
        lacks_cpuid(machine)
        machine.has("apt-get", f"[[ $* == *--print-uris* || -e hangs ]] || {{ {hang}; }}")
    else:
        at = 'cp "$0" .venv/bin/python' if where == "venv" else 'echo "Collecting thing==1"'
        machine.has("python3", PYTHON.replace(at, f"{at}; [[ -e hangs ]] || {{ {hang}; }}"))
    (machine.programs / "sleep").symlink_to(shutil.which("sleep") or pytest.skip("no sleep here"))
    with machine.begun() as process:
        until((machine.project / "hangs").exists)
        os.killpg(process.pid, number)  # as a terminal does: the whole group
        _, err = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    said = [line for line in err.splitlines() if not line.startswith("  ") and line != "Terminated"]  # bash's own word
    assert said == ["setup: interrupted; 'make setup' goes on from here"]
    until(lambda: not list(group_of(process.pid)))
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert "ok cpuidlab in .venv" in done.stderr
    assert machine.setup().stderr == "" or where == "apt"  # there cpuid is missing for ever


def test_an_environment_that_was_half_emptied_is_made_anew(machine: Machine) -> None:
    """Killed while the old one was removed, and then the old lock came back: its stamp must have gone first."""
    machine.setup()
    lock = machine.project / "tooling/requirements.lock"
    before = lock.read_text()
    lock.write_text("other==1\n")
    machine.has("python3", PYTHON.replace("mkdir -p .venv/bin; rm -f .venv/stamp*;", "kill -9 $PPID;"))
    assert machine.setup().returncode == -signal.SIGKILL
    lock.write_text(before)
    machine.has("python3", PYTHON)
    assert "ok Python packages" in machine.setup().stderr


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
