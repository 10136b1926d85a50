"""The trial of nesting, with a machine that only has a console."""

from pathlib import Path
from typing import Any

import pytest
from cpuidlab.base.errors import HopelessBootError, LabError, UnsupportedError
from cpuidlab.rig import nesting
from cpuidlab.rig.host_machine import Boot

BOOT = Boot(Path("/k"), Path("/i"), "kvm_amd.npt=1", "kvm", "host")


class Machine:
    """A host that has printed `printed`; `started` and `stopped` count."""

    printed = "LAB: host up\r\n"
    started = stopped = 0

    def console(self) -> str:
        return Machine.printed

    def watch(self) -> None:
        if "does not load" in Machine.printed:
            raise HopelessBootError("host 6.1-npt-kvm: the host's console says: LAB: kvm_amd does not load")

    def stop(self) -> None:
        Machine.stopped += 1

    @classmethod
    def start(cls, _name: str, boot: Boot, _deadline: object) -> "Machine":
        assert boot is BOOT
        Machine.started += 1
        return cls()


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with a /dev/kvm; returns that file."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(nesting, "QemuMachine", Machine)
    monkeypatch.setattr(nesting, "DEVICE", device)
    for name, value in (("printed", "LAB: host up\r\n"), ("started", 0), ("stopped", 0)):
        monkeypatch.setattr(Machine, name, value)
    return device


def check(identity: str = "one") -> None:
    nesting.check("6.1-npt-kvm", identity, lambda: BOOT)


def test_a_host_that_loads_kvm_tells_it_once(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check()
    check()
    assert (Machine.started, Machine.stopped) == (1, 1)
    check("another host")
    assert Machine.started == 2
    machine.rename(machine.with_name("old"))
    machine.touch()  # KVM was loaded anew
    check()
    assert Machine.started == 3
    monkeypatch.setattr(nesting, "BOOT_ID", machine)  # the machine has booted again
    check()
    assert Machine.started == Machine.stopped == 4


def test_where_kvm_does_not_load_the_reason_is_one_line_and_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "printed", "LAB: kvm_amd does not load\r\n")
    for times in (1, 2):
        with pytest.raises(UnsupportedError) as caught:
            check()
        assert str(caught.value).endswith("the host's console says: LAB: kvm_amd does not load")
        assert "\n" not in str(caught.value)
        assert (Machine.started, Machine.stopped) == (times, times)


def test_of_a_host_that_never_comes_up_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "printed", "Linux version 6.1")
    monkeypatch.setattr(nesting, "SECONDS", 0.05)
    with pytest.raises(LabError, match="whether this machine's KVM nests, and has failed; run the job again: waited"):
        check()
    assert Machine.stopped == 1


def test_a_machine_without_qemu_is_stopped_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any) -> Machine:
        raise HopelessBootError("QEMU ended with exit code 1: Could not access KVM kernel module")

    monkeypatch.setattr(Machine, "start", start)
    with pytest.raises(UnsupportedError, match="Could not access KVM kernel module"):
        check()
    assert Machine.stopped == 0
