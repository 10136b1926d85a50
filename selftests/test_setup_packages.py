"""Set-up's system packages: which are missing, which of several names is chosen, and what a failed apt looks like."""

from pathlib import Path

import pytest
from baremachine import ALL_INSTALLED, Machine, changing, fails_in_one_line, lacks_cpuid


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


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
