"""CPUs that are plugged in and out, on a rig that only writes down what is asked of it."""

from functools import partial

import pytest
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.experiment import hotplug
from cpuidlab.experiment.observation import VcpuAnswer
from fakerig import FakeRig, event, guest_on
from models import EPYC

BROKEN = LabError("it failed")


@pytest.mark.parametrize("online", ["", BROKEN])
def test_a_cpu_that_is_brought_up_or_is_not(online: str | Exception) -> None:
    rig = FakeRig()
    rig.guest.answers |= {"echo there": "there\n", "= 1 ]": online}
    hotplug.bring_up(guest_on(rig), 2)
    assert rig.log[0] == "resume"
    assert "echo 1 >/sys/devices/system/cpu/cpu2/online" in rig.log[-1]


def test_a_cpu_that_the_guest_never_sees() -> None:
    with pytest.raises(LabError, match="in vain for the guest to see CPU 2"):
        hotplug.bring_up(guest_on(FakeRig(seconds=0.05)), 2)


def test_a_hot_add_takes_the_first_free_socket() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    assert hotplug.hot_add(guest, pdpe1gb=False) == 2
    command, words = rig.qmp.sent[-1]
    assert command == "device_add"
    assert words == {
        "driver": "host-x86_64-cpu", "id": "plugged", "socket-id": 0, "core-id": 2, "thread-id": 0,
        "host-phys-bits": True, "pdpe1gb": False,
    }  # fmt: skip
    assert (guest.vcpus, guest.answers) == ((0, 1, 2), [VcpuAnswer(2, "accepted")])
    assert guest.before[2] == guest.asked[2] == rig.hook.models[2]


def test_a_replug_takes_the_vcpu_asked_for() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    assert hotplug.replug(guest, 1, pdpe1gb=False) == 1
    assert rig.log == ["query-hotpluggable-cpus", "resume", "device_del", "device_add", "stop"]
    assert rig.qmp.sent[1] == ("device_del", {"id": "/machine/unattached/device[1]"})
    assert rig.qmp.sent[2][1]["core-id"] == 1
    assert (guest.vcpus, guest.answers) == ((0, 1), [VcpuAnswer(1, "accepted")])


def test_a_plug_that_kills_qemu_is_no_lab_failure() -> None:
    for plug in (partial(hotplug.replug, vcpu=1), hotplug.hot_add):
        rig = FakeRig()
        guest = guest_on(rig)
        rig.qmp.dies_at = "device_add"
        rig.hook.answered(1, EPYC, 22, by="qemu")
        assert plug(guest) is None
        assert guest.answers == [VcpuAnswer(1, "EINVAL")]


def test_a_replug_under_which_the_host_is_lost() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.qmp.dies_at = "device_add"

    def lost() -> None:
        raise LostVMError("the host is gone")

    rig.machine.watch = lost
    with pytest.raises(LostVMError, match="the host is gone"):
        hotplug.replug(guest, 1)


def test_a_guest_that_does_not_let_its_cpu_go() -> None:
    rig = FakeRig(seconds=0.05)
    rig.qmp.silent = True
    with pytest.raises(LabError, match="DEVICE_DELETED"):
        hotplug.replug(guest_on(rig), 1)


def test_a_refused_replug_is_a_lab_failure() -> None:
    rig = FakeRig()
    rig.qmp.refuses = "device_add"
    with pytest.raises(LabError, match="was refused"):
        hotplug.replug(guest_on(rig), 1)


def test_a_cpu_that_is_plugged_in_again_stays_offline_and_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = FakeRig()
    rig.guest.answers |= {"echo there": "there\n"}
    guest = guest_on(rig)
    monkeypatch.setattr(rig.hook, "get", lambda *_: pytest.fail("a model was read"))
    assert hotplug.replug_offline(guest, 1)
    log = [line for line in rig.log if "online" not in line]
    assert log == ["query-hotpluggable-cpus", "resume", "device_del", "device_add", "resume", "stop"]
    assert not any("echo 1 >" in line for line in rig.log)
    assert (guest.answers, guest.restarted) == ([VcpuAnswer(1, "accepted")], {1})


def test_a_second_unplug_waits_for_an_event_of_its_own() -> None:
    rig = FakeRig(seconds=0.05)
    rig.qmp.events.append(event("DEVICE_DELETED"))
    rig.qmp.silent = True
    with pytest.raises(LabError, match="DEVICE_DELETED"):
        hotplug.replug(guest_on(rig), 1)


def test_a_plug_of_which_qemu_dies_leaves_nothing_to_wait_for() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.qmp.dies_at = "device_add"
    rig.hook.answered(1, EPYC, 22, by="qemu")
    assert not hotplug.replug_offline(guest, 1)
    assert guest.answers == [VcpuAnswer(1, "EINVAL")]
