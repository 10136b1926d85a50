"""How a guest ended: rigs without machines, with recorded words."""

from collections.abc import Sequence
from typing import Any

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import ClosedError, LabError, LostVMError
from cpuidlab.experiment import guest_exit
from cpuidlab.experiment.observation import Fate
from cpuidlab.experiment.rig_logs import LogReader
from cpuidlab.kvm.hook_answers import Where
from cpuidlab.kvm.hook_log import HookEvent
from fakerig import FakeRig, event

SPIN, OTHER = 0xFFFFFFFF81A0B2AB, 0xFFFFFFFF8100112C
CONSOLE = (
    "[    0.000000] Linux version 6.1.0-40-cloud-amd64\r\nLAB: guest up\r\n"
    "[   31.992811] BUG: unable to handle page fault for address: ffff88813fe01000\r\n"
    "[   31.992830] #PF: supervisor read access in kernel mode\r\n"
    "[   31.992835] #PF: error_code(0x0009) - reserved bit violation\r\n"
    "[   31.992851] Oops: 0009 [#1] PREEMPT SMP NOPTI\r\n"
    "[   31.993100] BUG: unable to handle page fault for address: ffff88813fe01000\r\n"
    "[   31.993999] Kernel panic - not syncing: Fatal exception\r\n"
)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_exit, "STUCK_LOOK_SECONDS", 0.0)


def at(rip: int, cpl: int = 0, runs: bool = True) -> Where:
    return Where(rip, cpl, runs)


def stuck(*vcpus: Sequence[Where | Exception]) -> str | None:
    """What is said of a guest whose vCPUs show that, one look after the other."""
    rig = FakeRig()
    rig.hook.looks = {vcpu: list(looks) for vcpu, looks in enumerate(vcpus)}
    said = guest_exit.stuck(rig.as_rig())
    assert rig.qmp.sent == []  # `info registers` would do harm
    return said


LOOKS = guest_exit.STUCK_LOOKS


def test_a_spinning_vcpu_is_named_with_its_place() -> None:
    said = stuck([at(number) for number in range(LOOKS)], [at(SPIN, 3)] * LOOKS)
    assert said == f"hangs: vCPU 1 does not get past RIP {SPIN:016x} (CPL 3), 12 of 12 looks"


def test_a_halted_vcpu_before_the_spinning_one_is_not_blamed() -> None:
    said = stuck([at(OTHER, runs=False)] * LOOKS, [at(SPIN)] * LOOKS)
    assert said is not None
    assert f"vCPU 1 does not get past RIP {SPIN:016x} (CPL 0)" in said


def test_a_guest_at_rest_does_not_hang() -> None:
    assert stuck([at(SPIN, runs=False)] * LOOKS, [at(SPIN, runs=False)] * LOOKS) is None


def test_a_guest_that_moves_does_not_hang() -> None:
    assert stuck([at(number) for number in range(LOOKS)], [at(SPIN, runs=False)] * LOOKS) is None


@pytest.mark.parametrize(("same", "hangs"), [(6, False), (7, True)])
def test_some_looks_may_find_it_in_an_interrupt_handler(same: int, hangs: bool) -> None:
    assert (stuck([at(SPIN if number < same else number) for number in range(LOOKS)]) is not None) is hangs


def test_a_vcpu_that_is_unplugged_does_not_hide_the_spinning_one() -> None:
    said = stuck([LabError("err 110")] * LOOKS, [at(SPIN)] * LOOKS)
    assert said is not None and "vCPU 1 does not get past" in said


@pytest.mark.parametrize("end", [LostVMError("the host is gone"), ClosedError("the other side closed its connection")])
def test_a_guest_that_ends_under_the_look_does_not_hang(end: LabError) -> None:
    assert stuck([*([at(SPIN)] * (LOOKS - 1)), end]) is None


def test_last_words_each_once_and_without_line_ends() -> None:
    assert guest_exit.last_words(CONSOLE) == (
        "BUG: unable to handle page fault for address: ffff88813fe01000",
        "#PF: error_code(0x0009) - reserved bit violation",
        "Oops: 0009 [#1] PREEMPT SMP NOPTI",
        "Kernel panic - not syncing: Fatal exception",
    )
    assert guest_exit.last_words("[    1.0] LAB: guest up\r\nOops: from a program\r\n") == ()


DEATH = (
    event("RESUME", 100),
    event("STOP", 105),
    event("RESUME", 110.9),
    event("SHUTDOWN", 112.15, guest=True, reason="guest-reset"),
)
TRIPLE = "2.000000000 shutdown vcpu=0\n"


def end_of(rig: FakeRig) -> Fate:
    """QEMU's shell writes the exit code a bit later than QEMU ends."""
    logs = LogReader(rig.as_rig())
    files, not_yet = rig.files, iter([{"qemu-exit": ""}])
    rig.files = lambda: files() | next(not_yet, {})  # type: ignore[method-assign]
    return guest_exit.of_dead(rig.as_rig(), logs)


def test_a_triple_fault_is_told_by_the_hooks_log() -> None:
    rig = FakeRig()
    rig.end_qemu(0, "", *DEATH)
    rig.texts["guest-console"] = CONSOLE
    logs = LogReader(rig.as_rig())
    rig.hook.events.append(TRIPLE)
    words = "BUG: unable to handle page fault for address: ffff88813fe01000"
    fate = guest_exit.of_dead(rig.as_rig(), logs)
    assert fate == Fate(False, f"triple fault (KVM_EXIT_SHUTDOWN), after {words}", 1.25, 0)


def test_a_reset_by_the_guest_itself() -> None:
    rig = FakeRig()
    rig.hook.events.append(TRIPLE)  # before the mark
    rig.end_qemu(0, "", DEATH[-1])
    assert end_of(rig) == Fate(False, "reset by the guest itself (guest-reset)", None, 0)


def test_a_qemu_that_died_by_itself() -> None:
    rig = FakeRig()
    words = "qemu-system-x86_64: kvm_init_vcpu: kvm_arch_init_vcpu failed (1): Invalid argument"
    rig.end_qemu(1, f"warning: TCG\n{words}\n", DEATH[0])
    assert end_of(rig) == Fate(False, f"QEMU died: {words}", None, 1)


@pytest.mark.parametrize(
    ("code", "events", "words"),
    [
        (0, DEATH[:1], "told of no shutdown of its guest, and exited with 0: it said nothing"),
        (139, DEATH, "told of a shutdown of its guest, and exited with 139: it said nothing"),
    ],
)
def test_an_exit_code_that_the_shutdown_event_does_not_confirm_is_a_lab_error(
    code: int, events: Sequence[dict[str, Any]], words: str
) -> None:
    rig = FakeRig()
    rig.end_qemu(code, "", *events)
    with pytest.raises(LabError, match=words):
        end_of(rig)


def test_an_event_without_a_time_is_a_lab_error() -> None:
    rig = FakeRig()
    rig.end_qemu(0, "", DEATH[0], DEATH[-1] | {"timestamp": None})
    with pytest.raises(LabError, match="without a time"):
        end_of(rig)


def test_a_guest_is_gone_where_qmp_has_ended_and_the_host_has_not() -> None:
    rig = FakeRig()
    assert not guest_exit.is_gone(rig.as_rig())
    rig.qmp.ended = True
    assert guest_exit.is_gone(rig.as_rig())
    rig.host_lost = True
    with pytest.raises(LostVMError, match="the host is gone"):
        guest_exit.is_gone(rig.as_rig())


def test_await_end() -> None:
    rig = FakeRig()
    assert guest_exit.await_end(rig.as_rig(), Deadline.after(0.05)) is False
    looks = iter([None, None])

    def ends_later() -> None:
        if next(looks, "ended") == "ended":
            raise LostVMError("the QMP connection has ended")

    rig.qmp.watch = ends_later  # type: ignore[method-assign]
    assert guest_exit.await_end(rig.as_rig(), Deadline.after(10)) is True
    rig.host_lost = True
    with pytest.raises(LostVMError, match="the host is gone"):
        guest_exit.await_end(rig.as_rig(), Deadline.after(10))


@pytest.mark.parametrize(
    ("panic", "ends", "how"),
    [
        (None, False, None),
        ("Kernel panic - not syncing: Fatal exception", True, None),
        (
            "Kernel panic - not syncing: Fatal exception",
            False,
            "its QEMU lives on after Kernel panic - not syncing: Fatal exception",
        ),
    ],
)
def test_a_guest_that_panicked_has_died_even_where_its_qemu_lives_on(
    panic: str | None, ends: bool, how: str | None
) -> None:
    rig = FakeRig()
    rig.texts["guest-console"] = f"[    9.0] {panic}\r\n" if panic else ""
    rig.qmp.ended = ends
    assert guest_exit.panicked(rig.as_rig(), Deadline.after(0.1)) == how


@pytest.mark.parametrize("status", ["running", "paused", "prelaunch", "shutdown", "internal-error"])
def test_given_up_is_what_qemu_calls_an_internal_error(status: str) -> None:
    rig = FakeRig()
    rig.qmp.status = status
    assert guest_exit.is_given_up(rig.as_rig()) is (status == "internal-error")


def test_a_guest_that_has_ended_is_not_given_up() -> None:
    rig = FakeRig()
    rig.qmp.ended = True
    assert not guest_exit.is_given_up(rig.as_rig())


@pytest.mark.parametrize(
    ("kind", "printed", "how"),
    [
        (
            "internal_error",
            "qemu: a warning\nKVM internal error. Suberror: 1\nemulation failure\nRAX=0000000000000008\n",
            "KVM_EXIT_INTERNAL_ERROR on vCPU 1: KVM internal error. Suberror: 1, emulation failure",
        ),
        (
            "internal_error",
            "KVM internal error. Suberror: 1\nemulation failure\nRAX=0\nKVM internal error. Suberror: 3\nextra data",
            "KVM_EXIT_INTERNAL_ERROR on vCPU 1: KVM internal error. Suberror: 3",
        ),
        (
            "fail_entry",
            "KVM: entry failed, hardware error 0x80000021\n",
            "KVM_EXIT_FAIL_ENTRY on vCPU 1: KVM: entry failed, hardware error 0x80000021",
        ),
        (
            "run_failed",
            "error: kvm run failed Input/output error\n",
            "KVM_RUN failed on vCPU 1: error: kvm run failed Input/output error",
        ),
        ("internal_error", "", "KVM_EXIT_INTERNAL_ERROR on vCPU 1: QEMU did not say why"),
    ],
)
def test_how_kvm_gave_a_guest_up(kind: str, printed: str, how: str) -> None:
    since = [
        HookEvent(1.0, "internal_error", vcpu=0),
        HookEvent(2.0, kind, vcpu=1),
        HookEvent(2.1, "first_run", vcpu=1),
    ]
    assert guest_exit.of_given_up(since, printed) == how


def test_what_qemu_calls_an_internal_error_must_be_one_to_the_hook() -> None:
    with pytest.raises(LabError, match="no KVM_RUN that ended so"):
        guest_exit.of_given_up([HookEvent(1.0, "first_run", vcpu=0)], "KVM internal error. Suberror: 1\n")
