"""KVM's vendor module loaded anew: only by who may and where nobody uses it, put back with the parameters it had."""

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UnsupportedError
from cpuidlab.rig import kvm_module
from cpuidlab.rig.kvm_module import reload
from cpuidlab.rig.machine_facts import MachineFacts
from cpuidlab.rig.settings import Setting

PARAMETERS = "avic=N\nnested=1\nnpt=Y\nodd=not required\n"
NOBODY = "/proc/1/fd:\n/proc/70/fd:\n"
SOMEBODY = "/proc/1/fd:\n/proc/70/fd:\nlrwx------ 1 root root 64 Nov 1 10:00 9 -> /dev/kvm\n/proc/71/fd:\n"


class FakeHost:
    """A machine that answers by the first part that a command contains; `log` is what changed it, in its order."""

    def __init__(self, *, root: str = "yes", takes: bool = True, **answers: str) -> None:
        self.name = "lab1"
        empty = dict.fromkeys(MachineFacts.__dataclass_fields__, "")
        self.facts = MachineFacts(**empty | {"module": "kvm_amd", "paging": "npt", "user": "ann", "root": root})
        self.settings = self
        self.log: list[Setting | str] = []
        self._takes = takes
        known = {"refcnt": "0\n", "parameters": PARAMETERS, "stat -c": "660 0:108\n", "ls -l": NOBODY, "comm": "qemu\n"}
        self._answers = known | answers

    def run(self, command: str, _: Deadline, check: bool = True) -> str:
        if "modprobe" in command:
            self.log.append(command)
            return ""
        return next((text for part, text in self._answers.items() if part in command), "")

    def as_root(self, script: str) -> str:
        return script

    def will_change(self, setting: Setting, _: Deadline) -> None:
        self.log.append(setting)

    def ask_again(self, _: Deadline) -> None:
        if self._takes:
            self.facts = MachineFacts(**vars(self.facts) | {"paging": "shadow"})


def reloaded(host: FakeHost, paging: str = "shadow") -> list[Any]:
    reload(host, paging, Deadline.after(5))  # type: ignore[arg-type]
    return host.log


def test_the_way_back_is_known_before_the_module_is_loaded_anew() -> None:
    setting, load = reloaded(FakeHost())
    assert (setting.name, setting.old) == ("kvm_amd", PARAMETERS.strip())
    assert "\nload npt=0\n" in load and "\nload npt=Y\n" in setting.put_back
    assert "for word in avic=N nested=1; do" in load  # a value such as "not required" is nothing to load with
    assert "chmod 660 /dev/kvm && chown 0:108 /dev/kvm" in load
    told = "kvm_amd: npt was Y, a test loaded it with npt=0, and all its parameters are as before again"
    assert setting.told == told


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ({"root": ""}, "only root may load kvm_amd anew, and ann has no sudo without a password"),
        ({"refcnt": ""}, "kvm_amd is built into the kernel"),
        ({"refcnt": "2\n"}, "kvm_amd is in use 2 times, so it is not loaded anew"),
        ({"ls -l": SOMEBODY}, r"qemu \(process 70\) uses KVM there, so kvm_amd is not loaded anew"),
    ],
)
def test_what_forbids_it_is_one_line_and_nothing_is_touched(machine: dict[str, str], why: str) -> None:
    host = FakeHost(**machine)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=f"lab1: {why}"):
        reloaded(host)
    assert not host.log


def test_a_mode_that_the_module_does_not_take_is_told() -> None:
    with pytest.raises(UnsupportedError, match="lab1: kvm_amd does not take npt=0"):
        reloaded(FakeHost(takes=False))


@pytest.mark.parametrize("answers", [{"stat -c": "what?"}, {"parameters": "avic=N\n"}])
def test_a_machine_that_does_not_tell_the_way_back_is_left_alone(answers: dict[str, str]) -> None:
    host = FakeHost(**answers)  # type: ignore[arg-type]
    with pytest.raises(LabError, match="does not tell how kvm_amd is loaded"):
        reloaded(host)
    assert not host.log


def test_who_uses_kvm_is_found_among_all_processes() -> None:
    with Path("/dev/null").open():
        listing = subprocess.run(
            ["sh", "-c", kvm_module._USERS.replace("/dev/kvm", "/dev/null")], capture_output=True, text=True, check=True
        ).stdout
    assert kvm_module._user(listing)
    assert kvm_module._user(NOBODY) == ""
    assert kvm_module._user("/proc/9/fd:\nl 5 -> anon_inode:kvm-vm\n") == "9"


def loaded(tmp_path: Path, module: str, rmmod: str, others: dict[str, str]) -> list[str]:
    """Run the script for a module of this machine, with fake programs, and return what they were called with."""
    for name, script in {
        "rmmod": f'echo rmmod "$@" >>{tmp_path}/log; {rmmod}',
        "modprobe": f'echo modprobe "$@" >>{tmp_path}/log',
        "udevadm": "exit 0",
        "chmod": f'echo chmod "$@" >>{tmp_path}/log',
        "chown": f'echo chown "$@" >>{tmp_path}/log',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    script = kvm_module._load(module, "npt=0", others, "660", "0:108")
    subprocess.run(["sh", "-c", f"PATH={tmp_path}:$PATH; {script}"], check=True)
    return (tmp_path / "log").read_text().splitlines()


NODE = ["chmod 660 /dev/kvm", "chown 0:108 /dev/kvm"]


def parameter_that_is_off() -> tuple[str, str]:
    """Return a module of this machine and one of its parameters whose value is N."""
    for path in sorted(Path("/sys/module").glob("*/parameters/*")):
        with suppress(OSError):
            if path.read_text() == "N\n":
                return path.parts[3], path.name
    pytest.skip("no module here has a parameter that is off")


def test_a_module_that_is_still_used_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    module, _ = parameter_that_is_off()
    lines = loaded(tmp_path, module, f'[ "$(grep -c rmmod {tmp_path}/log)" = 3 ]', {"odd": "not required"})
    assert lines == [f"rmmod {module}"] * 3 + [f"modprobe {module} npt=0", *NODE]


def test_only_parameters_that_differ_then_are_given(tmp_path: Path) -> None:
    module, name = parameter_that_is_off()
    once = [f"rmmod {module}", f"modprobe {module} npt=0"]
    assert loaded(tmp_path, module, "exit 0", {name: "N"}) == [*once, *NODE]
    (tmp_path / "log").unlink()
    again = [f"rmmod {module}", f"modprobe {module} npt=0 {name}=Y"]
    assert loaded(tmp_path, module, "exit 0", {name: "Y"}) == [*once, *again, *NODE]
