"""The hook's sweep on the fake KVM, and hooks that are broken on purpose."""

from dataclasses import replace
from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.base.paths import TOOLING
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.sweep import ALL, OUTCOMES, Counts, Outcome, Row, Sweep, check, note_of, parse
from cpuidlab.kvm.hook import Hook
from cpuidlab.kvm.hook_log import parse_log
from cpuidlab.report import sweep_text
from fakehook import QEMUS_MODEL, REPORT, FakeQemu, Script, compiled, qemu
from fakerig import FakeRig

SOURCE = TOOLING / "hook" / "sweep.c"
NONE: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("built"))


def run_and_sweep(fake: FakeQemu) -> Sweep:
    """A sweep of a vCPU that has run, checked by all its witnesses."""
    fake.do("create 0")
    fake.do("set 0 3")
    fake.start()
    fake.do("stop 0")
    hook = fake.client()
    before = hook.get(0)
    found, counts = parse(hook.sweep(0)[0])
    log = [event for event in parse_log(fake.log.read_text()) if event.kind == "sweep"]
    check(found, counts, before, hook.get(0), log)
    return found


def of(found: Sweep, word: str) -> Row:
    return next(row for row in found.rows if row.word == word and row.leaf == 1)


ECHO = pytest.mark.parametrize("kvm", [{}, {"FAKEKVM_ECHO": "1"}], ids=["from 6.5", "before 6.5"])


@ECHO
def test_all_is_applied(built: Path, tmp_path: Path, kvm: dict[str, str]) -> None:
    with qemu(built, tmp_path, **kvm) as fake:
        found = run_and_sweep(fake)
        assert found.model == QEMUS_MODEL
        assert all(row.masks == NONE | {"applied": ALL} for row in found.rows)
        assert [one.outcome for one in found.removals] == ["applied"] * 3
        assert found.counts == Counts(483, 0, 483)
        assert 0 < found.seconds < 10
        assert note_of(found) is Note.ALL_TAKEN
        assert [event.split()[0] for event in fake.events()] == ["create", "set_cpuid2", "first_run", "sweep"]


@ECHO
def test_all_is_refused(built: Path, tmp_path: Path, kvm: dict[str, str]) -> None:
    with qemu(built, tmp_path, FAKEKVM_FORBID="1", **kvm) as fake:
        found = run_and_sweep(fake)
        assert all(row.masks == NONE | {"refused": ALL} for row in found.rows)
        assert {(one.outcome, one.errno) for one in found.removals} == {("refused", "EINVAL")}
        assert found.counts == Counts(0, 483, 0)
        assert note_of(found) is Note.ALL_REFUSED


def test_all_four_outcomes(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_PICKY="1", FAKEKVM_TORN="1") as fake:
        found = run_and_sweep(fake)
    assert of(found, "eax").masks == NONE | {"applied": ALL}
    assert of(found, "ebx").masks == NONE | {"applied": 0xFFFF, "refused": 0xFFFF0000}
    assert of(found, "ebx").errnos == {31: "EPERM"}
    assert of(found, "ecx").masks == NONE | {"applied": 0x7FFFFFFE, "other": 0x80000001}
    assert of(found, "ecx").errnos == {31: "EINVAL"}
    assert of(found, "edx").masks == NONE | {"ignored": ALL}
    assert found.counts == Counts(432, 51, 435)


def test_what_kvm_keeps_is_ignored_where_all_else_is_refused(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_PICKY="1", FAKEKVM_FORBID="1") as fake:
        found = run_and_sweep(fake)
    assert sweep_text.outcomes(found)["ignored"] == "leaf 0x0 EDX; leaf 0x1 EDX; leaf 0x2 EDX"
    # of this EDX a real KVM keeps one bit
    taken = "taken: leaf 0x0 EDX; leaf 0x1 EDX (without EDX.apic); leaf 0x2 EDX; removals taken: none"
    assert sweep_text.summary(found) == taken
    assert note_of(found) is Note.PARTLY_TAKEN


def test_a_running_vcpu_is_not_swept(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        fake.start()
        with pytest.raises(LabError, match="vcpu is running"):
            fake.client().sweep(0)
        fake.do("stop 0")


def test_a_model_that_cannot_be_put_back_is_told(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_STICKY="1") as fake:
        with pytest.raises(LabError, match="err 5 the model could not be put back"):
            run_and_sweep(fake)
        last = parse_log(fake.log.read_text())[-1]
        assert (last.kind, last.accepted, last.restored, last.errno) == ("sweep", 1, 1, 5)


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("word <= LAST_WORD", "word < LAST_WORD", "not each word of each entry"),
        ("bit < 32 &&", "bit < 31 &&", "not each bit was tried once in leaf 0x0 flags"),
        ("masks[outcome] |= 1u << bit;", "masks[outcome] = 1u << bit;", "not each bit was tried once"),
        ("sweep->restored++;\n", "return outcome;\n", "the hook made"),
        ("outcome == REFUSED)\n", "outcome == REFUSED || outcome == APPLIED)\n", "the hook made"),
        ("kvm(fd, KVM_SET_CPUID2, &sweep->before) ||", "", "err 5"),
        ("sweep->accepted++;", "sweep->accepted += 2;", "the hook made"),
        ("entry < nent && !sweep->lost", "entry + 1 < nent && !sweep->lost", "not each entry was left out"),
        ("nent, sweep->accepted, sweep->refused,", "nent, sweep->accepted, 1 + sweep->refused,", "the hook made"),
        ("\t\tnote(\"sweep ", "\t\tif (0) note(\"sweep ", "its log has []"),
    ],
)  # fmt: skip
def test_a_broken_hook_is_caught(tmp_path: Path, good: str, bad: str, complaint: str) -> None:
    text = SOURCE.read_text()
    assert text.count(good) == 1
    with qemu(compiled(tmp_path, sweep=text.replace(good, bad)), tmp_path) as fake, pytest.raises(LabError) as caught:
        run_and_sweep(fake)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "lines",
    [["ok nent=0"], ["m 0 2 0 0 0 0", "ok nent=0 accepted=0 refused=0 restored=0 ns=1"], ["q 1", "ok nent=0"]],
)
def test_a_garbled_answer_is_a_lab_failure(lines: list[str]) -> None:
    with pytest.raises(LabError, match="in a sweep"):
        parse(Hook(Script(REPORT, *lines)).sweep(0)[0])


def guest_of(fake: FakeQemu) -> Guest:
    """The guest of that QEMU; its hook and the hook's log are real."""
    rig = FakeRig()
    rig.hook = fake.client()  # type: ignore[assignment]
    rig.files = lambda: {"host-log": "", "hook-log": fake.log.read_text()}  # type: ignore[method-assign]
    return Guest(rig.as_rig())


def test_a_guest_is_swept_as_often_as_a_test_likes(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        fake.do("set 0 3")
        guest = guest_of(fake)
        first, second = guest.sweep(vcpu=0), guest.sweep(vcpu=0)
        assert replace(first, seconds=0) == replace(second, seconds=0)
        assert guest.notes == [Note.ALL_TAKEN] * 2


def test_a_sweep_of_another_model_than_the_one_before_is_not_believed(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        fake.do("set 0 3")
        guest = guest_of(fake)
        guest.before = {0: tuple(replace(entry, edx=1) for entry in QEMUS_MODEL)}
        with pytest.raises(LabError, match="the model swept is not the one that KVM told before"):
            guest.sweep(vcpu=0)
