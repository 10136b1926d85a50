"""What a machine tells of itself, read from a stand-in's answer."""

import re

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError, UnsupportedError
from cpuidlab.rig.machine_facts import ask
from cpuidlab.rig.reach import Reach

GOOD = {
    "release": "6.1.0-9-amd64",
    "version": "Linux version 6.1.27 (a@b) #1",
    "machine": "x86_64",
    "kvm": "there",
    "kvm_opens": "yes",
    "module": "kvm_amd",
    "paging": "1",
    "qemu": "/usr/bin/qemu-system-x86_64",
    "user": "ann",
    "root": "sudo",
}


def _machine(**other: str) -> Reach:
    """A machine that answers the one question with these facts."""
    lines = "".join(f"{name}={value}\n" for name, value in (GOOD | other).items())
    return Reach("ssh://lab", ("sh", "-c", 'printf %s "$0"', lines))


def _ask(reach: Reach) -> object:
    return ask(reach, Deadline.after(10))


@pytest.mark.parametrize(
    ("module", "parameter", "paging"),
    [
        ("kvm_amd", "1", "npt"),
        ("kvm_amd", "0", "shadow"),
        ("kvm_intel", "Y", "ept"),
        ("kvm_intel", "N", "shadow"),
        ("kvm_pvm", "", "shadow"),
    ],
)
def test_paging_mode(module: str, parameter: str, paging: str) -> None:
    facts = ask(_machine(module=module, paging=parameter), Deadline.after(10))
    assert (facts.module, facts.paging, facts.sudo) == (module, paging, "sudo -n ")


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ({"kvm": ""}, "it has no /dev/kvm"),
        ({"kvm_opens": ""}, "ann may not open /dev/kvm: sudo usermod -aG kvm ann"),
        ({"module": ""}, "neither kvm_amd nor kvm_intel is loaded"),
        ({"qemu": ""}, "it has no QEMU"),
        ({"machine": "aarch64"}, "it is a aarch64 machine"),
    ],
)
def test_what_is_missing_is_one_line(missing: dict[str, str], line: str) -> None:
    with pytest.raises(UnsupportedError, match=f"ssh://lab: {line}"):
        _ask(_machine(**missing))


def test_a_silent_machine_is_a_lab_failure() -> None:
    with pytest.raises(LabError, match="does not say what it is"):
        _ask(Reach("ssh://lab", ("true",)))


def test_this_machine_answers_the_question() -> None:
    """The question itself is good shell: this machine has facts, or lacks something that is named."""
    try:
        found = ask(Reach("local"), Deadline.after(20))
        assert found.release
        assert int(found.free_mib) > 0
    except UnsupportedError as error:
        assert "local: " in str(error)


@pytest.mark.parametrize(
    ("said", "major"),
    [("QEMU emulator version 5.2.0 (Debian 1:5.2)", 5), ("QEMU emulator version 10.0.2 (qemu-kvm-10)", 10), ("", None)],
)
def test_the_major_version_of_qemu(said: str, major: int | None) -> None:
    assert ask(_machine(qemu_version=said), Deadline.after(10)).qemu_major == major


@pytest.mark.parametrize(
    ("memory", "free"),
    [
        ({"MemAvailable": "3145728 kB", "SwapFree": "1024 kB", "overcommit": "0"}, "3073"),
        ({"MemAvailable": "3145728 kB", "SwapFree": "0 kB", "overcommit": "1", "CommitLimit": "0 kB"}, "3072"),
        (
            {"MemAvailable": "3145728 kB", "SwapFree": "0 kB", "overcommit": "2"}
            | {"CommitLimit": "2097152 kB", "Committed_AS": "1048576 kB"},
            "1024",
        ),
        ({"SwapFree": "0 kB"}, ""),
    ],
)
def test_free_memory_is_what_a_new_process_may_use(memory: dict[str, str], free: str) -> None:
    assert ask(_machine(**memory), Deadline.after(10)).free_mib == free


@pytest.mark.parametrize(
    ("ssh", "why"),
    [
        ("exit 255", "ssh ended without a word: the connection was cut, or a signal ended 'sleep 5' there"),
        ("echo Connection closed >&2; exit 255", "ssh says: Connection closed"),
        ("kill -9 $$", "signal 9 ended ssh here, during 'sleep 5'"),
    ],
)
def test_a_lost_connection_says_what_is_known(ssh: str, why: str) -> None:
    with pytest.raises(LostVMError, match=re.escape(f"ssh://lab: {why}")):
        Reach("ssh://lab", ("sh", "-c", ssh)).run("sleep 5", Deadline.after(10))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_lost_exit_code_matters_only_where_it_is_asked_for(is_there: bool) -> None:
    ssh = f'[ "$0" = true ] && exit {0 if is_there else 255}; echo yes; exit 255'
    reach = Reach("ssh://lab", ("sh", "-c", ssh))
    with pytest.raises(LostVMError, match="ssh ended without a word"):
        reach.run("poll", Deadline.after(10), check=is_there)
    if is_there:
        assert reach.run("poll", Deadline.after(10), check=False) == "yes\n"


@pytest.mark.parametrize(
    ("ssh", "why"),
    [
        ("kill -9 $$", "signal 9 ended the connection's program here"),
        ("exit 3", "the connection's program ended with 3"),
        ("echo bad >&2; exit 3", "bad"),
    ],
)
def test_a_program_that_ends_by_itself_says_what_is_known(ssh: str, why: str) -> None:
    program = Reach("ssh://lab", ("sh", "-c", ssh)).open("true")
    try:
        assert str(program.lost(seconds=5)) == f"ssh://lab: {why}"
    finally:
        program.close()
