"""A fresh guest for each test of a job: saved by the first, restored where that is quicker, booted where it must be."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig import guest_state, saved_guest
from cpuidlab.rig.guest_config import PROFILES, Layout, Profile
from cpuidlab.rig.reach import Reach
from cpuidlab.rig.rig import GuestStart
from cpuidlab.rig.saved_guest import RUN_EACH_VCPU, Known, SavedGuest

SMALL = PROFILES["small"]


class FakeRig:
    """A rig whose QEMU is a few files of this machine; `log` is what was done with it, in its order.

    `save` is what becomes of saving. A QEMU that takes a saved guest ends at once where `restores` is False.
    """

    def __init__(self, folder: Path, save: str = "completed", restores: bool = True) -> None:
        folder.mkdir()
        self.layout = Layout(str(folder), "", "", "")
        self.deadline = Deadline.after(10)
        self.host = Reach("here")
        self.qmp: Any = SimpleNamespace(execute=self._execute)
        self.log: list[str] = []
        self.guest_start = GuestStart.BOOTED
        self._save = save
        self._restores = restores

    def start(self, profile: Profile) -> None:
        assert not Path(self.layout.exit).exists()
        self.log.append("incoming" if profile.incoming else "start")
        if profile.incoming and not self._restores:
            Path(self.layout.exit).write_text("1\n")
            raise LostVMError("the guest's QEMU ended at once")
        if profile.incoming:
            assert Path(profile.incoming.removeprefix("exec:cat ")).exists()

    def _execute(self, command: str, _: Deadline, **words: Any) -> Any:
        self.log.append(command)
        if command == "migrate":
            Path(words["uri"].removeprefix("exec:cat >")).write_text("state")
        if command == "quit":
            Path(self.layout.exit).write_text("0\n")
            raise LostVMError("QMP broke off during quit")
        return {"status": "paused" if command == "query-status" else self._save, "error-desc": "no room"}

    def stop(self) -> None:
        self.log.append("stop")

    def resume(self) -> None:
        self.log.append("resume")

    def hang_up(self) -> None:
        pass

    def login(self, _: Deadline) -> Any:
        return SimpleNamespace(run=lambda command, _: self.log.append(command))

    def wait(self, what: str, look: Callable[[], Any]) -> Any:
        assert look(), what


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let what QEMU and SSH do be the fake's; the list is what the clock shows next, then one second more each time."""
    times: list[float] = []
    clock = SimpleNamespace(now=0.0)

    def monotonic() -> float:
        clock.now = times.pop(0) if times else clock.now
        return clock.now

    monkeypatch.setattr(saved_guest, "time", SimpleNamespace(monotonic=monotonic))
    for module in (saved_guest, guest_state):
        monkeypatch.setattr(module, "start_guest", lambda rig, profile: rig.start(profile))
    monkeypatch.setattr(saved_guest, "run_guest", lambda rig: rig.log.append("run"))
    monkeypatch.setattr(saved_guest, "mark_guest", lambda rig: rig.log.append("mark"))
    return times


def ready(folder: Path, paging: str = "npt", profile: Profile = SMALL, **fake: Any) -> tuple[Known, FakeRig]:
    """Bring the guest of another test of the same job to GUEST_READY."""
    rig = FakeRig(folder / str(len(list(folder.iterdir()))), **fake)
    return SavedGuest(rig, profile, str(folder), paging).make_ready(), rig  # type: ignore[arg-type]


BOOTED = ["start", "run"]
SAVED = ["stop", "migrate-set-parameters", "migrate", "query-migrate", "quit"]
RESTORED = ["incoming", "query-status", "resume", RUN_EACH_VCPU, "mark"]


def test_the_first_test_saves_and_all_others_restore(tmp_path: Path, steps: list[float]) -> None:
    steps += [0.0, 9.0, 20.0, 22.5]
    known, rig = ready(tmp_path)
    assert rig.log == BOOTED + SAVED + RESTORED
    assert known == Known(boot=9.0, restore=2.5)
    again, rig = ready(tmp_path)
    assert again == known and rig.log == RESTORED and rig.guest_start is GuestStart.RESTORED


@pytest.mark.parametrize("other", [{"paging": "shadow"}, {"profile": PROFILES["highmem"]}])
def test_another_guest_is_saved_by_itself(tmp_path: Path, steps: list[float], other: dict[str, Any]) -> None:
    steps += [0.0, 9.0, 20.0, 22.5, 30.0, 39.0, 50.0, 52.5]
    ready(tmp_path)
    assert ready(tmp_path, **other)[1].log == BOOTED + SAVED + RESTORED


def test_a_boot_that_is_quicker_serves_all_other_tests(tmp_path: Path, steps: list[float]) -> None:
    steps += [0.0, 1.0, 20.0, 22.0]
    ready(tmp_path)
    _, rig = ready(tmp_path)
    assert rig.log == BOOTED and rig.guest_start is GuestStart.BOOTED


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        ({"save": "failed"}, "the guest cannot be saved: no room"),
        ({"restores": False}, "the guest's QEMU ended at once"),
    ],
)
def test_a_guest_that_cannot_be_saved_or_restored_boots(tmp_path: Path, fault: dict[str, Any], trouble: str) -> None:
    known, rig = ready(tmp_path, **fault)
    assert known.trouble.startswith(trouble)
    assert rig.log[-2:] == BOOTED and rig.guest_start is GuestStart.BOOTED
    assert [file.suffix for file in tmp_path.glob("guest-*")] == [".json"]  # the state takes no room
    again, rig = ready(tmp_path)
    assert again == known and rig.log == BOOTED


def test_a_save_that_was_cut_short_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SavedGuest, "_note", lambda *_: None)
    ready(tmp_path)
    assert ready(tmp_path)[1].log == BOOTED + SAVED + RESTORED


def test_what_is_known_is_private(tmp_path: Path) -> None:
    known, _ = ready(tmp_path)
    (file,) = tmp_path.glob("guest-*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert Known(**json.loads(file.read_text())) == known


def test_a_boot_that_fails_is_the_labs_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise LabError("the guest does not boot")

    monkeypatch.setattr(saved_guest, "run_guest", fail)
    with pytest.raises(LabError, match="the guest does not boot"):
        ready(tmp_path)
    assert not list(tmp_path.glob("guest-*"))
