"""Acts and observers on a story whose rig only writes down what is asked of it."""

import socket
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cpuidlab.base import deadline
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.experiment import guest_ops, page_probe
from cpuidlab.experiment.experiment import Story
from fakechannel import FakeChannel

# query-hotpluggable-cpus of -smp 2,maxcpus=4: the highest first, a qom-path only where a CPU is plugged
SLOTS = [
    {"type": "host-x86_64-cpu", "vcpus-count": 1, "props": {"socket-id": 0, "core-id": core, "thread-id": 0}}
    | ({"qom-path": f"/machine/unattached/device[{core}]"} if core < 2 else {})
    for core in (3, 2, 1, 0)
]


@dataclass
class FakeQmp:
    """Sends the event that a command is followed by; `dies_at` is the command that QEMU does not survive."""

    log: list[str]
    dies_at: str = ""
    refuses: str = ""
    silent: bool = False
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    come: set[str] = field(default_factory=set)

    def execute(self, command: str, _: Deadline, **arguments: Any) -> Any:
        self.log.append(command)
        self.sent.append((command, {name.replace("_", "-"): value for name, value in arguments.items()}))
        if command == self.dies_at:
            raise LostVMError("QMP broke off")
        if command == self.refuses:
            raise LabError(f"QMP {command} was refused")
        event = {"system_reset": "RESET", "device_del": "DEVICE_DELETED"}.get(command)
        if event and not self.silent:
            self.come.add(event)
        return SLOTS

    def watch(self) -> None:
        """Nothing more comes by itself."""

    def seen(self, event: str) -> bool | None:
        return event in self.come or None

    def tail(self) -> str:
        return "the transcript"


class FakeGuest:
    """Answers a command with the first fitting text; its programs are fake channels."""

    def __init__(self, log: list[str], answers: dict[str, str]) -> None:
        self._log = log
        self._answers = answers
        self.channel = FakeChannel()

    def run(self, command: str, _: Deadline, check: bool = True) -> str:
        self._log.append(command)
        answer = next((text for part, text in self._answers.items() if part in command), "")
        if answer == "broken" and check:
            raise LabError("it failed")
        return answer

    def open_program(self, command: str, _: Deadline) -> FakeChannel:
        self._log.append(command)
        return self.channel


class FakeStory:
    def __init__(self, answers: dict[str, str] | None = None, seconds: float = 10) -> None:
        self.log: list[str] = []
        self.readings: list[str] = []
        self.deadline = Deadline.after(seconds)
        self.lost = False
        self.has_run = [False, False]
        self.qmp = FakeQmp(self.log)
        self.guest = FakeGuest(self.log, answers or {})
        self.rig = SimpleNamespace(
            qmp=self.qmp,
            guest=self.guest,
            host=self.guest,
            wait=lambda what, look: deadline.wait_for(what, look, self.deadline, self.watch),
            watch=self.watch,
            machine=SimpleNamespace(watch=self.watch),
            hook=SimpleNamespace(list=lambda: [SimpleNamespace(has_run=one) for one in self.has_run]),
        )

    def watch(self) -> None:
        if self.lost:
            raise LostVMError("the host is gone")

    def resume(self) -> None:
        self.log.append("resume")

    def stop(self) -> None:
        self.log.append("stop")

    def adopt(self, vcpu: int) -> None:
        self.log.append(f"adopt {vcpu}")

    def qemu_set(self) -> None:
        self.log.append("qemu_set")

    def boots(self) -> None:
        self.log.append("boots")

    def as_story(self) -> Story:
        return cast(Story, self)


def test_a_reset_is_allowed_awaited_and_followed_by_a_boot() -> None:
    story = FakeStory()
    guest_ops.system_reset(story.as_story())
    assert story.log == ["set-action", "system_reset", "query-status", "boots"]
    assert story.qmp.sent[0] == ("set-action", {"reboot": "reset"})


def test_a_reset_that_never_comes_shows_the_transcript() -> None:
    story = FakeStory(seconds=0.05)
    story.qmp.silent = True
    with pytest.raises(LabError, match="in vain for QEMU's event RESET") as caught:
        guest_ops.system_reset(story.as_story())
    assert caught.value.evidence == "the transcript"
    assert "boots" not in story.log


def test_a_lost_host_is_told_as_such() -> None:
    story = FakeStory()
    story.lost = True
    with pytest.raises(LostVMError, match="the host is gone"):
        guest_ops.system_reset(story.as_story())


def test_a_guest_that_reboots_itself_is_stopped_after_its_reset() -> None:
    story = FakeStory()
    story.qmp.come.add("RESET")
    guest_ops.guest_reboot(story.as_story())
    assert story.log == ["set-action", "resume", "reboot -f", "stop", "boots"]


def test_a_cpu_that_waits_for_sipi_and_is_brought_up_again() -> None:
    story = FakeStory()
    guest_ops.send_init(story.as_story(), 1)
    guest_ops.put_online(story.as_story(), 1)
    path = "/sys/devices/system/cpu/cpu1/online"
    init = f"insmod /lib/cpuidprobe.ko && echo 0 >{path} && echo init 1 >/proc/cpuidprobe"
    assert story.log == ["resume", init, "stop", "resume", f"echo 1 >{path}", "stop"]


def test_only_the_first_vcpu_runs() -> None:
    story = FakeStory()
    states = iter([[False, False], [True, False], [True, False]])
    story.rig.hook.list = lambda: [SimpleNamespace(has_run=one) for one in next(states)]
    guest_ops.run_first_vcpu_only(story.as_story())
    assert story.log == ["resume", "stop", "boots"]
    assert next(states, None) is None
    story = FakeStory()
    story.has_run = [True, True]
    with pytest.raises(LabError, match="the firmware has woken the other vCPUs"):
        guest_ops.run_first_vcpu_only(story.as_story())


@pytest.mark.parametrize("online", ["", "broken"])
def test_a_cpu_that_is_brought_up_or_is_not(online: str) -> None:
    story = FakeStory({"echo there": "there\n", "= 1 ]": online})
    guest_ops.bring_up(story.as_story(), 2)
    assert story.log[0] == "resume"
    assert "echo 1 >/sys/devices/system/cpu/cpu2/online" in story.log[-1]


def test_a_cpu_that_the_guest_never_sees() -> None:
    with pytest.raises(LabError, match="in vain for the guest to see CPU 2"):
        guest_ops.bring_up(FakeStory(seconds=0.05).as_story(), 2)


def test_a_hot_add_takes_the_first_free_socket() -> None:
    story = FakeStory()
    assert guest_ops.hot_add(story.as_story(), pdpe1gb=False) == 2
    command, words = story.qmp.sent[-1]
    assert command == "device_add"
    assert words == {
        "driver": "host-x86_64-cpu", "id": "plugged", "socket-id": 0, "core-id": 2, "thread-id": 0,
        "host-phys-bits": True, "pdpe1gb": False,
    }  # fmt: skip


def test_a_replug_takes_the_vcpu_asked_for() -> None:
    story = FakeStory()
    assert guest_ops.replug(story.as_story(), 1, pdpe1gb=False) == 1
    assert story.log == ["query-hotpluggable-cpus", "resume", "device_del", "device_add", "adopt 1"]
    assert story.qmp.sent[1] == ("device_del", {"id": "/machine/unattached/device[1]"})
    assert story.qmp.sent[2][1]["core-id"] == 1


def test_a_plug_that_kills_qemu_is_no_lab_failure() -> None:
    for plug in (partial(guest_ops.replug, vcpu=1), guest_ops.hot_add):
        story = FakeStory()
        story.qmp.dies_at = "device_add"
        assert plug(story.as_story()) is None
        assert story.log[-1] == "qemu_set"


def test_a_replug_under_which_the_host_is_lost() -> None:
    story = FakeStory()
    story.qmp.dies_at = "device_add"
    story.qmp.come.add("DEVICE_DELETED")
    watch, calls = story.watch, []

    def lost_later() -> None:
        calls.append(1)
        story.lost = len(calls) > 1
        watch()

    story.rig.machine.watch = lost_later
    lost_later()
    with pytest.raises(LostVMError, match="the host is gone"):
        guest_ops.replug(story.as_story(), 1)


def test_a_guest_that_does_not_let_its_cpu_go() -> None:
    story = FakeStory(seconds=0.05)
    story.qmp.silent = True
    with pytest.raises(LabError, match="DEVICE_DELETED"):
        guest_ops.replug(story.as_story(), 1)


def test_a_refused_replug_is_a_lab_failure() -> None:
    story = FakeStory()
    story.qmp.refuses = "device_add"
    with pytest.raises(LabError, match="was refused"):
        guest_ops.replug(story.as_story(), 1)


OK, FAULT = "ok value=0x5a5a", "fault error_code=0x9"


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (OK, OK, "no fault"),
        (OK, FAULT, "missed fault"),
        (FAULT, FAULT, "fault"),
        (FAULT, OK, "fault of the old mapping alone"),
    ],
)
def test_two_observers(old: str, new: str, word: str) -> None:
    story = FakeStory({"</dev/null": f"{new}\n"})
    far = story.guest.channel.far
    far.sendall(f"{OK}\n{old}\n".encode())
    two = page_probe.Observers(story.as_story(), "3 ram 0")
    assert "insmod /lib/cpuidprobe.ko" in story.log[0]
    assert story.log[1] == "probe 3 ram 0"
    assert two.read("after the change") == word
    assert far.recv(9) == b"read\n"
    assert story.log[-1] == "probe 3 ram 0 </dev/null"
    assert story.readings == [f"mapped: old {OK}", f"after the change: old {old}; new {new}"]


@pytest.mark.parametrize(("answer", "word"), [(b"ok touched\n", "harmless"), (None, "killed")])
def test_a_touch(answer: bytes | None, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_probe.guest_exit, "is_gone", lambda _: False)
    story = FakeStory()
    far = story.guest.channel.far
    far.sendall(f"{OK}\n".encode())
    two = page_probe.Observers(story.as_story(), "3 ram 0")
    if answer is None:
        far.shutdown(socket.SHUT_WR)
    else:
        far.sendall(answer)
    assert two.touch("at last") == word
    assert far.recv(9) == b"touch\n"
    assert story.readings[-1].startswith("at last: touched, ")


def test_a_touch_that_nobody_answers_killed_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_probe, "READ_SECONDS", 0.05)
    story = FakeStory()
    story.guest.channel.far.sendall(f"{OK}\n".encode())
    two = page_probe.Observers(story.as_story(), "3 ram 0")
    with pytest.raises(LabError, match="did not answer in time"):
        two.touch("at last")


def test_an_observer_that_ends_is_a_lab_error() -> None:
    story = FakeStory()
    story.guest.channel.far.close()
    with pytest.raises(LabError, match="closed its connection"):
        page_probe.Observers(story.as_story(), "3 ram 0")


@pytest.mark.parametrize(("old", "new"), [(OK, ""), (OK, "sh: probe: not found"), ("ok", OK)])
def test_an_answer_that_is_neither_is_no_fault(old: str, new: str) -> None:
    story = FakeStory({"</dev/null": new})
    story.guest.channel.far.sendall(f"{OK}\n{old}\n".encode())
    two = page_probe.Observers(story.as_story(), "3 ram 0")
    with pytest.raises(LabError, match="neither a value nor a fault"):
        two.read("after the change")


def test_levers() -> None:
    story = FakeStory()
    page_probe.add_memslot(story.as_story())
    assert story.qmp.sent == [
        ("object-add", {"qom-type": "memory-backend-ram", "id": "more", "size": 1 << 27}),
        ("device_add", {"driver": "pc-dimm", "id": "dimm", "memdev": "more"}),
    ]
    page_probe.drop_shadow_pages(story.as_story())
    assert "/sys/module/kvm/parameters/nx_huge_pages" in story.log[-1]
