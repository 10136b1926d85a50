"""What is done to a guest beside setting its CPUID, on a rig that only writes down what is asked of it."""

import socket

import pytest
from cpuidlab.base.errors import LabError, LostVMError, UnknownCommandError, UnsupportedError
from cpuidlab.experiment import guest_ops, page_probe
from cpuidlab.experiment.guest import Course
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.page_probe import LastingReader, Page, PageReaders
from cpuidlab.kvm.cpuid import with_field
from fakerig import FakeRig, event, guest_on
from models import EPYC

BROKEN = LabError("it failed")


def test_a_reset_is_allowed_awaited_and_followed_by_a_boot() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    guest_ops.system_reset(guest)
    assert rig.log == ["set-action", "system_reset", "query-status"]
    assert rig.qmp.sent[-3] == ("set-action", {"reboot": "reset"})
    assert guest.course is Course.BOOTS


def test_a_qemu_that_cannot_allow_a_reboot_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(command: str, *_: object, **__: object) -> None:
        raise UnknownCommandError(command)

    guest = guest_on(FakeRig())
    monkeypatch.setattr(guest.rig.qmp, "execute", execute)
    for reset in (guest_ops.system_reset, guest_ops.guest_reboot):
        with pytest.raises(UnsupportedError, match=r"QEMU 6\.0 and later can"):
            reset(guest)


def test_a_reset_that_never_comes_shows_the_transcript() -> None:
    rig = FakeRig(seconds=0.05)
    rig.qmp.silent = True
    guest = guest_on(rig)
    with pytest.raises(LabError, match="in vain for QEMU's event RESET") as caught:
        guest_ops.system_reset(guest)
    assert caught.value.evidence == "the transcript"
    assert guest.course is Course.RUNS_ON


def test_a_lost_host_is_told_as_such() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.host_lost = True
    with pytest.raises(LostVMError, match="the host is gone"):
        guest_ops.system_reset(guest)


def test_a_guest_that_reboots_itself_is_stopped_after_its_reset() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.qmp.events.append(event("RESET"))
    guest_ops.guest_reboot(guest)
    assert rig.log == ["set-action", "resume", "reboot -f", "stop"]
    assert guest.course is Course.BOOTS


def test_osxsave_is_set_by_the_guest_and_is_in_the_models_from_before() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.hook.models = dict.fromkeys(rig.hook.models, with_field(EPYC, "osxsave", 1))
    guest_ops.set_osxsave(guest)
    assert "echo osxsave >/proc/cpuidprobe" in rig.log[1]
    assert guest.before == guest.asked == rig.hook.models


def test_osxsave_can_be_set_on_one_cpu() -> None:
    rig = FakeRig()
    guest_ops.set_osxsave(guest_on(rig), cpu=1)
    assert "echo osxsave 1 >/proc/cpuidprobe" in rig.log[1]


def test_a_guest_arms_a_breakpoint_and_a_stopped_vm_gets_an_nmi() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    guest_ops.set_breakpoint(guest)
    guest_ops.send_nmi(guest)
    arm = "insmod /lib/cpuidprobe.ko && echo breakpoint >/proc/cpuidprobe"
    assert rig.log == ["resume", arm, "stop", "inject-nmi"]


@pytest.mark.parametrize(
    ("osxsave", "note", "course"),
    [(0, Note.OSXSAVE_CLEARED, Course.BOOTS), (1, Note.OSXSAVE_STALE, Course.STAYS_STOPPED)],
)
def test_a_guest_with_a_stale_osxsave_is_not_let_boot(osxsave: int, note: Note, course: Course) -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    guest.let_boot()
    rig.hook.models = {0: with_field(EPYC, "osxsave", 0), 1: with_field(EPYC, "osxsave", osxsave)}
    guest_ops.note_osxsave(guest)
    assert (guest.notes, guest.course) == ([note], course)


def test_a_cpu_that_waits_for_sipi_and_is_brought_up_again() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    guest_ops.send_init(guest, 1)
    guest_ops.put_online(guest, 1)
    path = "/sys/devices/system/cpu/cpu1/online"
    init = f"insmod /lib/cpuidprobe.ko && echo 0 >{path} && echo init 1 >/proc/cpuidprobe"
    assert rig.log == ["resume", init, "stop", "resume", f"echo 1 >{path}", "stop"]


def test_only_the_first_vcpu_runs() -> None:
    rig = FakeRig(has_run=False)
    guest = guest_on(rig)
    rig.hook.has_run[0] = True
    guest_ops.run_first_vcpu_only(guest)
    assert rig.log == ["resume", "stop"]
    assert guest.course is Course.BOOTS
    rig.hook.has_run[1] = True
    with pytest.raises(LabError, match="the firmware has woken the other vCPUs"):
        guest_ops.run_first_vcpu_only(guest)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (Page(level=3, address=0x4000_0000), "3 0x40000000 0"),
        (Page(level=3), "3 ram 0"),
        (Page(level=2, address=0x20_0000_0000, bits=0x100), "2 0x2000000000 100"),
    ],
)
def test_a_page_as_the_program_in_the_guest_reads_it(page: Page, words: str) -> None:
    assert str(page) == words


OK, FAULT = "ok value=0x5a5a", "fault error_code=0x9"


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        (OK, OK, Note.NO_FAULT),
        (OK, FAULT, Note.MISSED_FAULT),
        (FAULT, FAULT, Note.FAULT),
        (FAULT, OK, Note.FAULT_OF_OLD_MAPPING),
    ],
)
def test_two_readers(old: str, new: str, note: Note) -> None:
    rig = FakeRig()
    rig.guest.answers["</dev/null"] = f"{new}\n"
    far = rig.guest.channel.far
    far.sendall(f"{OK}\n{old}\n".encode())
    guest = guest_on(rig)
    readers = PageReaders(guest, Page(3))
    assert rig.log[0] == "resume"
    assert "insmod /lib/cpuidprobe.ko" in rig.log[1]
    assert rig.log[2] == "probe 3 ram 0"
    assert readers.read("after the change") is note
    assert far.recv(9) == b"read\n"
    assert rig.log[-1] == "probe 3 ram 0 </dev/null"
    assert guest.readings == [f"mapped: old {OK}", f"after the change: old {old}; new {new}"]


@pytest.mark.parametrize(("answer", "note"), [(b"ok touched\n", Note.HARMLESS), (None, Note.KILLED)])
def test_a_touch(answer: bytes | None, note: Note) -> None:
    rig = FakeRig()
    far = rig.guest.channel.far
    far.sendall(f"{OK}\n".encode())
    guest = guest_on(rig)
    readers = PageReaders(guest, Page(3))
    if answer is None:
        far.shutdown(socket.SHUT_WR)
    else:
        far.sendall(answer)
    assert readers.touch("at last") is note
    assert far.recv(9) == b"touch\n"
    assert guest.readings[-1].startswith("at last: touched, ")


def test_a_touch_that_nobody_answers_killed_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_probe, "READ_SECONDS", 0.05)
    rig = FakeRig()
    rig.guest.channel.far.sendall(f"{OK}\n".encode())
    readers = PageReaders(guest_on(rig), Page(3))
    with pytest.raises(LabError, match="did not answer in time"):
        readers.touch("at last")


def test_a_reader_that_ends_is_a_lab_error() -> None:
    rig = FakeRig()
    rig.guest.channel.far.close()
    with pytest.raises(LabError, match="closed its connection"):
        PageReaders(guest_on(rig), Page(3))


@pytest.mark.parametrize(("old", "new"), [(OK, ""), (OK, "sh: probe: not found"), ("ok", OK)])
def test_an_answer_that_is_neither_is_no_fault(old: str, new: str) -> None:
    rig = FakeRig()
    rig.guest.answers["</dev/null"] = new
    rig.guest.channel.far.sendall(f"{OK}\n{old}\n".encode())
    readers = PageReaders(guest_on(rig), Page(3))
    with pytest.raises(LabError, match="neither a value nor a fault"):
        readers.read("after the change")


@pytest.mark.parametrize(("answer", "note"), [(OK, Note.NO_FAULT), (FAULT, Note.FAULT)])
def test_a_reader_that_outlives_its_login(answer: str, note: Note) -> None:
    rig = FakeRig()
    rig.guest.answers |= {"sed -n 1p": OK, "sed -n 2p": answer}
    guest = guest_on(rig)
    reader = LastingReader(guest, Page(3))
    assert rig.log[0] == "resume" and rig.log[-1] == "stop"
    assert "insmod /lib/cpuidprobe.ko" in rig.log[1] and "(probe 3 ram 0 </run/ask >/run/said 2>&1 &)" in rig.log[1]
    assert reader.read("afterwards") is note
    assert "echo read >/run/ask" in rig.log
    assert guest.readings == [f"mapped: {OK}", f"afterwards: {answer}"]


def test_a_page_that_cannot_be_read_at_first_is_a_lab_error() -> None:
    rig = FakeRig()
    rig.guest.answers["sed -n 1p"] = FAULT
    with pytest.raises(LabError, match="cannot read the page that it has just mapped"):
        LastingReader(guest_on(rig), Page(3))


def test_levers() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    page_probe.add_memslot(guest)
    assert rig.qmp.sent == [
        ("object-add", {"qom-type": "memory-backend-ram", "id": "more", "size": 1 << 27}),
        ("device_add", {"driver": "pc-dimm", "id": "dimm", "memdev": "more"}),
    ]
    for old, new in (("Y\n", "0"), ("N\n", "1")):
        rig.host.answers["cat /sys/module/kvm/parameters/nx_huge_pages"] = old
        page_probe.drop_shadow_pages(guest)
        assert rig.log[-1] == f"/sys/module/kvm/parameters/nx_huge_pages becomes {new}"
