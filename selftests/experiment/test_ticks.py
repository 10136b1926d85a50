"""The guest's timers, seen through a guest program that is told what to say."""

from collections.abc import Sequence

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError
from cpuidlab.experiment import ticks
from cpuidlab.experiment.calls import Calls
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.ticks import are_late, latest, note_timers
from fakechannel import FakeChannel
from fakerig import FakeRig, guest_on

ON_TIME = " 500" * ticks.TICKS


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guest, "wait", lambda *_: None)


def say(rig: FakeRig, *rounds: Sequence[str] | None) -> None:
    """What ticks says in each round; None where it does not even begin."""
    left = list(rounds)

    def start(command: str, _: Deadline) -> FakeChannel:
        rig.log.append(command)
        channel = FakeChannel()
        lines = left.pop(0)
        channel.settimeout(0.01)
        if lines is not None:
            channel.far.sendall("".join(f"{line}\n" for line in ("armed", *lines)).encode())
        return channel

    rig.guest.open_program = start  # type: ignore[method-assign]


def late(seconds: float) -> tuple[str, str]:
    return f"0{ON_TIME}", f"1{' 500' * (ticks.TICKS - 1)} {seconds * 1e6:.0f}"


@pytest.mark.parametrize(
    ("seconds", "note"),
    [((1.3, 1.3, 1.3), Note.TIMERS_LATE), ((1.3, 0, 1.3), Note.TIMERS_LATE), ((1.3, 0, 0), Note.TIMERS_ON_TIME)],
)
def test_timers_that_are_late_after_calls(seconds: Sequence[float], note: Note) -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    say(rig, *[late(0.01)] * 3, *(late(one) for one in seconds))
    note_timers(guest, Calls("maxphyaddr=36"), Calls(vcpu=1, bad="pointer"))
    assert guest.notes == [note]
    calls = ["1 times set 0 by 2", "1 times unreadable 1 by 2"]
    begin, end = ["resume", "ticks 100 10 0 1", "silence"], ["no silence", "ticks 0 0"]
    idle = begin + ["stop", "resume"] * ticks.CYCLES + end
    busy = begin + ["stop", *calls, "resume"] * ticks.CYCLES + end
    assert rig.log == idle * ticks.ROUNDS + busy * ticks.ROUNDS
    assert guest.readings[0].endswith("s with calls, 0.010 s, 0.010 s, 0.010 s without")
    assert guest.figures == (guest.readings if note is Note.TIMERS_LATE else [])


def test_live_calls_leave_the_vm_running_and_one_cpu_may_be_watched() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    say(rig, *[[f"0{ON_TIME}"]] * 6)
    note_timers(guest, Calls(vcpu=1), times=50, live=True, cpus=[0])
    assert guest.notes == [Note.TIMERS_ON_TIME]
    assert "stop" not in rig.log
    assert rig.log.count("live 50 times set 1 by 2") == ticks.ROUNDS * ticks.CYCLES
    assert "ticks 100 10 0" in rig.log


def test_timers_that_are_late_without_any_call_say_nothing() -> None:
    with pytest.raises(LabError, match=r"late without any call, by 0\.900 s, 0\.800 s, 0\.000 s"):
        are_late([2.0, 2.0, 2.0], [0.9, 0.8, 0.0])


def test_a_busy_machine_is_no_lost_timer() -> None:
    assert not are_late([0.9, 1.1, 0.8], [0.1, 0.45, 0.3])
    assert are_late([0.9, 1.1, 1.2], [0.1, 0.3, 0.2])


def test_timers_that_never_fire_and_a_guest_that_starts_no_program_after_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks, "LINE_SECONDS", 0.05)
    rig = FakeRig()
    guest = guest_on(rig)
    say(rig, *[late(0.01)] * 3, [], None, late(0.01))
    note_timers(guest, Calls())
    assert guest.notes == [Note.TIMERS_LATE]
    assert guest.readings[0].startswith("timers were late by at most for ever, for ever, 0.010 s with calls")


@pytest.mark.parametrize("rounds", [[None], [late(0)] * 3 + [None]])
def test_a_guest_that_starts_no_program_is_a_lab_failure(
    rounds: Sequence[Sequence[str] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "LINE_SECONDS", 0.05)
    rig = FakeRig()
    guest = guest_on(rig)
    say(rig, *rounds)
    with pytest.raises(LabError, match="did not answer in time"):
        note_timers(guest, Calls())


@pytest.mark.parametrize("lines", [["x"], [""], ["0 1 2", f"1{ON_TIME}"], [f"0{ON_TIME}"], [f"0{ON_TIME}", "1"]])
def test_a_program_that_says_something_else_is_a_lab_failure(lines: Sequence[str]) -> None:
    with pytest.raises(LabError, match="the guest"):
        latest(lines, (0, 1))


def test_a_program_that_is_not_there() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.guest.channel.far.sendall(b"sh: ticks: not found\n")
    with pytest.raises(LabError, match="could not begin: sh: ticks: not found"):
        note_timers(guest, Calls())
