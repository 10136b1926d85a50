"""A rig on a fake machine: its connections, its states, and what brings it from one stage to the next."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import HopelessBootError, LabError, LostVMError
from cpuidlab.rig import guest_config
from cpuidlab.rig.boot import boot_host, run_guest, start_guest
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.nested_rig import NestedRig
from cpuidlab.rig.rig import NO_MARK, GuestMark, Rig, Stage
from fakemachine import FakeLab
from fakeqmp import event

SMALL = PROFILES["small"]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLab:
    return FakeLab(monkeypatch, tmp_path)


def soon() -> Deadline:
    return Deadline.after(20)


def test_a_connection_is_opened_when_it_is_needed_and_only_once(lab: FakeLab) -> None:
    rig = NestedRig.start(lab.setup, soon())
    assert lab.logins == []
    assert rig.host is rig.host
    assert lab.logins == ["host"]
    assert rig.guest is rig.guest and rig.qmp is rig.qmp and rig.hook is rig.hook
    assert lab.logins == ["host", "guest"]
    assert len(lab.host.qmps) == 1
    rig.close()


def test_what_went_over_a_qmp_that_never_was_up(lab: FakeLab) -> None:
    with NestedRig.start(lab.setup, soon()) as rig:
        assert (rig.seen("SHUTDOWN"), list(rig.qmp_transcript)) == (None, [])
        rig.qmp.execute("query-status", soon())
        assert rig.qmp_transcript


def test_after_hanging_up_each_connection_is_a_new_one(lab: FakeLab) -> None:
    with NestedRig.start(lab.setup, soon()) as rig:
        before = (rig.host, rig.guest, rig.qmp, rig.hook)
        rig.hang_up()
        assert (lab.host.closed, lab.guest.closed) == (1, 1)
        assert rig.qmp is not before[2] and rig.hook is not before[3]
        assert lab.logins == ["host", "guest", "host"]
    assert lab.machines[0].stopped


def test_a_login_ends_the_one_before(lab: FakeLab) -> None:
    with NestedRig.start(lab.setup, soon()) as rig:
        rig.login(soon())
        assert lab.guest.closed == 0
        rig.login(soon())
        assert (lab.guest.closed, lab.logins) == (1, ["host", "guest", "guest"])


def test_the_machine_ends_also_where_a_connection_cannot_be_closed(lab: FakeLab) -> None:
    def fail() -> None:
        raise OSError("no")

    rig = NestedRig.start(lab.setup, soon())
    _ = rig.host
    lab.host.close = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no"):
        rig.close()
    assert lab.machines[0].stopped


def watch_until_lost(rig: Rig, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rig.watch()
        time.sleep(0.01)


def test_a_guest_that_qemu_stops_by_itself_is_lost(lab: FakeLab) -> None:
    with NestedRig.start(lab.setup, soon()) as rig:
        rig.resume()
        rig.watch()
        lab.host.qmps[0].say(event("STOP"))
        with pytest.raises(LostVMError, match=r"the guest's QEMU on 6.1-npt stopped by itself: KVM internal error"):
            watch_until_lost(rig, 10)


def test_a_guest_that_we_stop_is_not_lost(lab: FakeLab) -> None:
    with NestedRig.start(lab.setup, soon()) as rig:
        rig.resume()
        rig.stop()
        watch_until_lost(rig, 0.1)
        assert [one["event"] for one in rig.qmp.events] == ["RESUME", "STOP"]


def test_a_lost_host_is_lost_without_a_guest(lab: FakeLab) -> None:
    with NestedRig.start(lab.setup, soon()) as rig:
        rig.watch()
        lab.machines[0].lost = True
        with pytest.raises(LostVMError, match="the host is gone"):
            rig.watch()


def test_files_that_are_not_there_are_empty(lab: FakeLab) -> None:
    with NestedRig.start(lab.setup, soon()) as rig:
        files = rig.files()
    assert files["host-log"] == "6,0,0,-;Linux\n"
    assert files["hook-log"] == files["qemu-exit"] == ""


def test_a_snapshot_keeps_where_the_guest_is(lab: FakeLab, tmp_path: Path) -> None:
    with NestedRig.start(lab.setup, soon()) as rig:
        _ = rig.guest
        rig.guest_mark = GuestMark(12.5, 99)
        rig.snapshot(tmp_path / "stage")
        assert lab.guest.closed == lab.host.closed == 1
    with NestedRig.restore(lab.setup, tmp_path / "stage", soon()) as copy:
        assert copy.guest_mark == GuestMark(12.5, 99)
    assert [machine.how for machine in lab.machines] == ["start", "restore"]


def test_a_snapshot_that_is_not_whole_is_named(lab: FakeLab, tmp_path: Path) -> None:
    (tmp_path / "rigs/stage").mkdir(parents=True)
    with pytest.raises(LabError, match=f"{tmp_path}/rigs/stage is not whole; remove {tmp_path}/rigs and run again"):
        NestedRig.restore(lab.setup, tmp_path / "rigs/stage", soon())


def test_the_stages_in_their_order(lab: FakeLab) -> None:
    assert list(Stage) == ["host_ready", "guest_held", "guest_ready"]
    with NestedRig.start(lab.setup, soon()) as rig:
        boot_host(rig)
        assert lab.logins == ["host"]
        start_guest(rig, SMALL)
        assert SMALL.command() in lab.host.ran
        assert lab.host.qmps[0].commands() == ["query-status"]
        assert rig.guest_mark == NO_MARK
        run_guest(rig)
        assert lab.host.qmps[0].commands() == ["query-status", "cont"]
        assert rig.guest_mark == GuestMark(12.34, 7)


def test_a_guests_qemu_that_ends_at_once(lab: FakeLab) -> None:
    lab.host.answers["[ -S "] = "qemu: a warning\nqemu: no such CPU\n"
    told = "the guest's QEMU ended at once on 6.1-npt: qemu: no such CPU"
    with NestedRig.start(lab.setup, soon()) as rig, pytest.raises(LostVMError, match=told) as lost:
        start_guest(rig, SMALL)
    assert "a warning" in lost.value.evidence


def test_a_guests_qemu_that_listens_and_then_ends(lab: FakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def qmp(_: NestedRig) -> None:
        raise LostVMError("QMP broke off during the QMP greeting")

    monkeypatch.setattr(NestedRig, "qmp", property(qmp))
    lab.host.answers["cat "] = "qemu: no such device\n"
    with (
        NestedRig.start(lab.setup, soon()) as rig,
        pytest.raises(LostVMError, match=r"ended at once on 6\.1-npt: qemu: no such device"),
    ):
        start_guest(rig, SMALL)


def test_a_guest_that_cannot_boot_is_told_with_all_files(lab: FakeLab) -> None:
    lab.host.files |= {
        guest_config.NESTED.console: "LAB: no network card\r\n",
        guest_config.NESTED.stderr: "qemu: a warning\n",
    }
    deadline = Deadline.after(11)  # of which ten seconds are kept back
    with (
        NestedRig.start(lab.setup, deadline) as rig,
        pytest.raises(HopelessBootError, match="LAB: no network card") as told,
    ):
        rig._hook = type("Hook", (), {"list": lambda _: "two vCPUs"})()  # type: ignore[assignment]
        run_guest(rig)
    assert "qemu-stderr:\nqemu: a warning" in told.value.evidence and "two vCPUs" in told.value.evidence


def test_a_guest_that_lets_nobody_in_is_told_with_all_files(lab: FakeLab) -> None:
    lab.closed_to = {"guest"}
    with (
        NestedRig.start(lab.setup, Deadline.after(11)) as rig,
        pytest.raises(LabError, match="guest lets nobody in") as told,
    ):
        rig._hook = type("Hook", (), {"list": lambda _: "two vCPUs"})()  # type: ignore[assignment]
        run_guest(rig)
    assert "guest-console:\nLAB: guest up" in told.value.evidence


def test_a_guest_that_takes_over_a_state_uses_the_relays_that_are_there(lab: FakeLab) -> None:
    with NestedRig.start(lab.setup, soon()) as rig:
        for profile in (SMALL, replace(SMALL, incoming="exec:cat /run/state")):
            rig.launch(profile)
            assert rig.profile == profile
    first, second = (command for command in lab.host.ran if "qemu-system-x86_64" in command)
    assert "socat" in first and "socat" not in second
