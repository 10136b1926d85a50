"""Rows of calls, and what they tell of the host's memory and of time, on a rig whose KVM is told what to do."""

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.experiment import memory, slowness
from cpuidlab.experiment.calls import Calls
from cpuidlab.experiment.memory import lost_in_most_rounds, note_memory, parse
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import VcpuAnswer
from cpuidlab.experiment.observe import Look
from cpuidlab.experiment.slowness import in_words, note_slowness
from cpuidlab.kvm.vcpu_state import Difference
from fakerig import FakeRig, guest_on

CHANGED = Calls("maxphyaddr=36")
EINVAL = 22


def test_a_row_is_one_answer_and_all_its_accepted_calls_count() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    CHANGED.make(guest, 500)
    Calls(bad="pointer", vcpu=1, call=1).make(guest, 20, live=True)
    assert rig.log == ["500 times set 0 by 2", "live 20 times unreadable 1 by 1"]
    assert guest.answers == [VcpuAnswer(0, "accepted"), VcpuAnswer(1, "EFAULT")]
    assert Look(guest).observe().accepted_calls == 500


def test_what_a_row_does_to_the_state_is_taken_in_as_one_call() -> None:
    rig = FakeRig()
    rig.hook.touches = (Difference(0, "debugregs", "dr7", "0x400", "0x0"),)
    guest = guest_on(rig)
    CHANGED.make(guest, 500)
    Calls(bad="pointer", vcpu=1, call=1).make(guest, 20)
    assert [(call.vcpu, call.name, call.answer, call.change, call.may_alter) for call in guest.state.touched] == [
        (0, "KVM_SET_CPUID2", "accepted", "maxphyaddr=36", True),
        (1, "KVM_SET_CPUID", "EFAULT", "old_ioctl", False),
    ]


def test_calls_in_words() -> None:
    assert str(CHANGED) == "KVM_SET_CPUID2 maxphyaddr=36 on vCPU 0"
    assert str(Calls(call=1, nent=257)) == "KVM_SET_CPUID as before nent=257 on vCPU 0"
    assert str(Calls(bad="entries", vcpu=1)) == "KVM_SET_CPUID2 unreadable entries on vCPU 1"


def test_a_row_that_is_too_slow_to_be_made_whole() -> None:
    rig = FakeRig()
    rig.hook.call_seconds = lambda _: 1.0
    guest = guest_on(rig)
    with pytest.raises(LabError, match="10 calls instead of 10000 were made within 10 s"):
        CHANGED.make_all(guest, 10_000)


# memory


def told(
    *,
    slab: int = 1000,
    vmalloc: int = 500,
    free: int = 90_000,
    cached: int = 60_000,
    anon: int = 20_000,
    objects: int | None = 300,
) -> str:
    """What the host tells of its memory."""
    text = (
        f"MemTotal: 299999 kB\nMemFree: {free} kB\nSlab: {slab} kB\nVmallocUsed: {vmalloc} kB\nHugePages_Free: 0\n"
        f"Buffers: 10 kB\nCached: {cached} kB\nSwapCached: 0 kB\nAnonPages: {anon} kB\n"
    )
    if objects is not None:
        text += (
            f"slabinfo - version: 2.1\n# name <active_objs> <num_objs>\nkmalloc-8 {objects} 999 8 512 1 : tunables\n"
        )
    return text


class Leaky:
    """A host whose memory grows with each row of calls, or all the time."""

    def __init__(self, rig: FakeRig, per_row: int = 0, always: int = 0) -> None:
        self._rig, self._per_row, self._always, self._looks = rig, per_row, always, 0
        rig.host.run = self.run  # type: ignore[method-assign]

    def run(self, command: str, *_: object) -> str:
        assert "/proc/slabinfo" in command
        self._looks += 1
        rows = sum(line.startswith("10000 times") for line in self._rig.log)
        return told(objects=300 + self._per_row * rows + self._always * self._looks)


@pytest.mark.parametrize(
    ("lost", "note"), [(9_990, Note.MEMORY_LOST), (4_000, Note.MEMORY_KEPT), (0, Note.MEMORY_KEPT)]
)
def test_memory_that_each_call_loses(lost: int, note: Note) -> None:
    rig = FakeRig()
    rig.hook.errno = EINVAL
    guest = guest_on(rig)
    Leaky(rig, per_row=lost)
    assert note_memory(guest, CHANGED, Calls(bad="pointer")) == "EFAULT"
    assert guest.notes == [note]
    assert len(guest.answers) == 2 * memory.ROUNDS
    told = f"10000 calls of {CHANGED} add, by the median of 3 rounds: objects kmalloc-8 9990"
    assert guest.figures[:1] == ([told] if note is Note.MEMORY_LOST else [])


def test_memory_that_grows_without_any_call_says_nothing_of_calls() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    Leaky(rig, always=5_200)
    with pytest.raises(LabError, match="grows without any call: objects kmalloc-8 by 5200"):
        note_memory(guest, CHANGED)


@pytest.mark.parametrize(
    ("after", "name"),
    [
        ({"slab": 1700}, "Slab"),
        ({"vmalloc": 1200}, "VmallocUsed"),
        ({"free": 65_000}, "unaccounted"),
        ({"cached": 35_000}, "unaccounted"),  # lost, and as much was taken from the caches
        ({"objects": 5_300}, "objects kmalloc-8"),
    ],
)
def test_each_figure_can_tell_of_a_loss(after: dict[str, int], name: str) -> None:
    before = parse(told())
    lost = parse(told(**after)).growth_since(before)
    still = parse(told()).growth_since(before)
    assert list(lost_in_most_rounds([still, still], [lost, lost])) == [name]
    assert list(lost_in_most_rounds([still, still], [lost, still, lost])) == [name]  # one round may hide it
    assert lost_in_most_rounds([still, still], [still, lost, still]) == {}  # what grows in one round only is noise
    assert lost_in_most_rounds([lost, lost], [still, still]) == {}


@pytest.mark.parametrize(
    "after",
    [{"free": 50_000, "anon": 60_000}, {"free": 50_000, "cached": 100_000}, {"free": 90_800, "slab": 200}],
    ids=["huge pages of a guest's memory", "files that are read", "slabs that the kernel gives back"],
)
def test_pages_that_belong_to_somebody_are_not_lost(after: dict[str, int]) -> None:
    before = parse(told())
    moved = parse(told(**after)).growth_since(before)
    assert moved["unaccounted"] == 0
    assert lost_in_most_rounds([moved], [moved, moved, moved]) == {}


def test_a_host_that_does_not_let_its_objects_be_counted() -> None:
    before, after = parse(told(objects=None)), parse(told(objects=None, slab=9_000))
    assert before.objects == {}
    assert lost_in_most_rounds([before.growth_since(before)], [after.growth_since(before)]) == {"Slab": 8000}


def test_a_host_without_these_figures() -> None:
    with pytest.raises(LabError, match="no AnonPages, Buffers, Cached, MemFree, MemTotal, SwapCached, VmallocUsed"):
        parse("Slab: 5 kB\n")


# time


@pytest.mark.parametrize(
    ("refused", "identical", "note"),
    [(4e-6, 4e-6, Note.NO_SLOWER), (30e-6, 4e-6, Note.NO_SLOWER), (5e-3, 4e-6, Note.SLOWER), (2.0, 4e-6, Note.SLOWER)],
)
def test_a_call_that_is_slower_than_an_identical_one(refused: float, identical: float, note: Note) -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.hook.call_seconds = lambda errno: refused if errno else identical
    note_slowness(guest, Calls(bad="pointer"))
    assert guest.notes == [note]
    assert len(guest.answers) == 2 * slowness.ROUNDS
    told = f"{Calls(bad='pointer')} took {in_words(refused)}, {refused / identical:,.1f} times an identical call"
    assert guest.readings == [told]
    assert guest.figures == ([told] if note is Note.SLOWER else [])


def test_times_in_words() -> None:
    assert [in_words(one) for one in (2.0, 0.005, 3.84e-6, 9e-8)] == ["2.0 s", "5.0 ms", "3.8 us", "90 ns"]
