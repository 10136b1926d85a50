"""Snapshots of a fake machine's rigs: what is kept of each stage, from what it is made, and boots that fail."""

import json
from pathlib import Path
from typing import Any

import pytest
from cpuidlab.base import artifact_gc
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import HopelessBootError, LabError, LostVMError
from cpuidlab.rig import snapshots
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.rig import Stage
from cpuidlab.rig.snapshots import BOOTS, SAVES, guest_snapshot, host_snapshot, open_rig, restorable
from fakemachine import FakeLab, memory

SMALL, HIGHMEM = PROFILES["small"], PROFILES["highmem"]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLab:
    monkeypatch.setattr(artifact_gc, "make_room", lambda *_: None)
    return FakeLab(monkeypatch, tmp_path)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def how(lab: FakeLab) -> list[str]:
    """How each machine was started; the trial restore after each saving is left out."""
    return [machine.how for machine in lab.machines if machine.how != "restore"]


def test_a_host_is_booted_once_and_kept_packed(lab: FakeLab) -> None:
    folder = host_snapshot(lab.setup)
    assert names(folder) == {"boots.json", "host_ready/ram.zst", "host_ready/state", "host_ready/guest-mark.json"}
    assert json.loads((folder / "boots.json").read_text()) == {"boots": 1}
    assert folder.name.startswith("6.1-npt-host-")
    assert host_snapshot(lab.setup) == folder
    assert how(lab) == ["start"]
    assert all(machine.stopped for machine in lab.machines)


def test_a_guest_is_booted_on_a_copy_of_the_host(lab: FakeLab) -> None:
    folder = guest_snapshot(lab.setup, SMALL)
    kept = {f"{stage}/{name}" for stage in Stage for name in ("ram.zst", "state", "guest-mark.json")}
    assert names(folder) == {"boots.json"} | {name for name in kept if not name.startswith("host_ready")}
    assert how(lab) == ["start", "restore_copy"]
    assert json.loads((folder / "guest_ready/guest-mark.json").read_text()) == {"uptime": 12.34, "kmsg": 7}
    assert json.loads((folder / "guest_held/guest-mark.json").read_text()) == {"uptime": 0.0, "kmsg": -1}


def test_each_stage_comes_back_as_it_was_saved(lab: FakeLab) -> None:
    for number, stage in enumerate(Stage, start=1):
        folder = restorable(lab.setup, stage, SMALL)
        assert (folder / "ram").read_bytes() == memory(number)
        assert (folder / "state").read_text() == f"state {number}"
        assert names(folder) == {"ram", "state", "guest-mark.json"}
    assert how(lab) == ["start", "restore_copy"]


def test_a_host_is_shared_by_its_guests(lab: FakeLab) -> None:
    assert guest_snapshot(lab.setup, SMALL) != guest_snapshot(lab.setup, HIGHMEM)
    assert how(lab) == ["start", "restore_copy", "restore_copy"]


def test_other_inputs_make_another_snapshot(lab: FakeLab) -> None:
    before = host_snapshot(lab.setup), guest_snapshot(lab.setup, SMALL)
    lab.setup.inputs = {"kernel": "another"}
    after = host_snapshot(lab.setup), guest_snapshot(lab.setup, SMALL)
    assert before[0] != after[0] and before[1] != after[1]


def test_a_host_that_does_not_trust_its_tsc_is_not_kept(lab: FakeLab) -> None:
    lab.host.answers["dmesg | grep -c 'Marking TSC unstable'"] = "1\n"
    with pytest.raises(
        LabError, match=r"6\.1-npt: the host's kernel marked its TSC unstable; run it on an idle machine"
    ):
        host_snapshot(lab.setup)
    assert how(lab) == ["start"] * BOOTS


def test_a_boot_that_fails_is_tried_again_and_counted(lab: FakeLab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.failures = [None, LostVMError("panic")]
    host = host_snapshot(lab.setup)  # the host boots, and its copy, the trial, panics
    assert json.loads((host / "boots.json").read_text()) == {"boots": 1}
    lab.failures = [LabError("no login")]
    folder = guest_snapshot(lab.setup, SMALL)
    assert json.loads((folder / "boots.json").read_text()) == {"boots": 2}
    assert "!! boot 1 of 6.1-npt small failed: no login" in capsys.readouterr().err
    assert names(folder) >= {"guest_held/ram.zst", "guest_ready/ram.zst"}


def test_half_a_boot_leaves_nothing(lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    boots = []

    def run_guest(rig: Any) -> None:
        boots.append(rig)
        if len(boots) == 1:
            raise LabError("the guest does not boot")

    monkeypatch.setattr(snapshots, "run_guest", run_guest)
    restored = restorable(lab.setup, Stage.GUEST_HELD, SMALL)
    assert (restored / "state").read_text() == "state 3"  # the second was saved by the boot that failed
    assert len(boots) == 2


@pytest.mark.parametrize(
    ("error", "boots"), [(LostVMError("panic"), BOOTS), (HopelessBootError("write error"), 1)], ids=["panic", "never"]
)
def test_what_would_fail_again_is_not_booted_again(
    lab: FakeLab, monkeypatch: pytest.MonkeyPatch, error: LabError, boots: int
) -> None:
    tried = []

    def boot(*words: object) -> None:
        tried.append(words)
        raise error

    monkeypatch.setattr(snapshots, "_boot_once", boot)
    with pytest.raises(LabError, match=rf"6.1-npt does not boot \(attempt {boots}\): {error}"):
        host_snapshot(lab.setup)
    assert len(tried) == boots


def test_a_boot_that_took_all_its_time_is_the_last(lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "BOOT_SECONDS", snapshots.TELL_SECONDS - 1)
    lab.failures = [LabError("in vain")] * BOOTS
    with pytest.raises(LabError, match="attempt 1"):
        host_snapshot(lab.setup)


def test_a_copy_that_cannot_be_restored_is_saved_again(lab: FakeLab) -> None:
    lab.failures = [None, LostVMError("nested state"), LostVMError("nested state")]
    folder = restorable(lab.setup, Stage.HOST_READY, SMALL)
    assert (folder / "state").read_text() == "state 3"
    assert how(lab) == ["start"]


def test_a_machine_that_is_never_restored_is_given_up(lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "BOOTS", 1)
    lab.failures = [None, *[LostVMError("nested state")] * SAVES]
    with pytest.raises(LabError, match="nested state"):
        host_snapshot(lab.setup)
    assert lab.saved == SAVES
    assert not list(Path(artifact_gc.cache_dir()).glob("rigs/*-host-????????????????????"))


@pytest.mark.parametrize("stage", list(Stage))
def test_a_rig_is_restored_at_its_stage(lab: FakeLab, stage: Stage) -> None:
    with open_rig(lab.setup, stage, "small", Deadline.after(10)) as rig:
        machine = lab.machines[-1]
        assert machine.how == "restore" and rig.machine is machine and rig.profile == SMALL
        assert machine.folder == restorable(lab.setup, stage, SMALL)
        assert (rig.guest_mark.kmsg == 7) is (stage == Stage.GUEST_READY)


@pytest.mark.parametrize(
    ("stage", "logins", "commands"),
    [
        (Stage.HOST_READY, ["host"], []),
        (Stage.GUEST_HELD, ["host"], ["query-status"]),
        (Stage.GUEST_READY, ["host", "guest"], ["query-status", "cont"]),
    ],
)
def test_a_cold_rig_boots_to_its_stage(lab: FakeLab, stage: Stage, logins: list[str], commands: list[str]) -> None:
    with open_rig(lab.setup, stage, SMALL, Deadline.after(20), cold=True):
        assert lab.logins == logins
        assert [command for qmp in lab.host.qmps for command in qmp.commands()] == commands
    assert how(lab) == ["start"]
    assert not (artifact_gc.cache_dir() / "rigs").exists()


def test_a_cold_rig_that_does_not_boot_is_ended(lab: FakeLab) -> None:
    lab.host.answers["[ -S "] = LabError("SSH broke off")
    with pytest.raises(LabError, match="SSH broke off"):
        open_rig(lab.setup, Stage.GUEST_READY, "small", Deadline.after(10), cold=True)
    assert lab.machines[0].stopped
