"""A guest whose kernel panics while somebody waits for it: its console ends the wait."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from cpuidlab.base.deadline import Deadline, wait_for
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig import guest_config
from cpuidlab.rig import rig as rig_module
from cpuidlab.rig.nested_rig import NestedRig
from cpuidlab.rig.panic import guest_panic
from fakemachine import FakeLab

PANIC = "Kernel panic - not syncing: Fatal exception in interrupt"
CONSOLE = f"LAB: guest up\r\n[   20.9] {PANIC}\r\n"


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLab:
    monkeypatch.setattr(rig_module, "PANIC_LOOK_SECONDS", 0.0)
    return FakeLab(monkeypatch, tmp_path)


def looks(lab: FakeLab) -> int:
    return sum(command.startswith("readout ") for command in lab.host.ran)


def test_a_panic_on_the_guests_console_ends_a_wait(lab: FakeLab) -> None:
    def answer() -> None:
        if looks(lab) == 2:
            lab.host.files[guest_config.NESTED.console] = CONSOLE

    with NestedRig.start(lab.setup, Deadline.after(20)) as rig:
        rig.resume()
        with pytest.raises(LostVMError, match=f"^6.1-npt: the guest's console says: {PANIC}$"):
            wait_for("an answer that never comes", answer, rig.deadline, rig.watch)
        assert looks(lab) == 3
        assert rig.panic() == PANIC


def test_a_quick_answer_costs_no_look(lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig_module, "PANIC_LOOK_SECONDS", 60.0)
    with NestedRig.start(lab.setup, Deadline.after(20)) as rig:
        rig.resume()
        rig.watch()
        assert looks(lab) == 0


def test_a_guest_that_is_stopped_is_not_looked_at(lab: FakeLab) -> None:
    lab.host.files[guest_config.NESTED.console] = CONSOLE
    with NestedRig.start(lab.setup, Deadline.after(20)) as rig:
        rig.resume()
        rig.stop()
        rig.watch()
        assert looks(lab) == 0


def test_a_silent_host_tells_of_no_panic_and_a_lost_host_is_lost() -> None:
    def panic_of(failure: LabError) -> str | None:
        def fail(*_: object) -> str:
            raise failure

        return guest_panic(SimpleNamespace(run=fail), "/console", Deadline.after(1))  # type: ignore[arg-type]

    assert panic_of(LabError("a program did not end in time")) is None
    with pytest.raises(LostVMError, match="the host is gone"):
        panic_of(LostVMError("the host is gone"))
