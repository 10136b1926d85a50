"""What a call does to the state of the vCPUs: the hook's report from end to end, and one that is torn."""

from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.kvm import state_rules
from cpuidlab.kvm.hook import Hook
from cpuidlab.kvm.hook_answers import Answer
from cpuidlab.kvm.state_fields import fields_at, table
from cpuidlab.kvm.state_rules import not_of_a_change, without_what_moves
from cpuidlab.kvm.vcpu_state import Difference, parse, state_text
from cpuidlab.rig.images import HOOK
from fakehook import QEMUS_MODEL, REPORT, Script, compiled, qemu

DR7 = Difference(0, "debugregs", "dr7", "0x400", "0x0")
TSC = Difference(0, "msr", "0x10", "0x1", "0x2")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("built"))


def touched(answer: Answer) -> list[str]:
    return [f"{one.vcpu}: {one}" for one in without_what_moves(answer.differences)]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("dr7", ["0: dr7 0x400 -> 0x0"]),
        ("xmm1", ["0: xmm1[127:64] 0x1122334455667788 -> 0x0"]),
        ("msr", ["0: MSR 0x174 IA32_SYSENTER_CS 0x10 -> 0x0"]),
        ("lost", ["0: MSR 0x174 IA32_SYSENTER_CS 0x10 -> -"]),
        ("sibling", ["1: dr7 0x400 -> 0x0"]),
    ],
)
def test_what_a_call_changes_is_told_whatever_it_answers(
    built: Path, tmp_path: Path, fault: str, expected: list[str]
) -> None:
    with qemu(built, tmp_path, FAKEKVM_TOUCHES=fault, FAKEKVM_FORBID="1") as fake:
        for vcpu in (0, 1):
            fake.do(f"create {vcpu}")
        fake.start()
        fake.do("stop 0")
        hook = fake.client()
        refused = hook.set(0, QEMUS_MODEL)
        assert refused.word == "EINVAL"
        assert touched(refused) == expected
        assert [one.field for one in refused.differences if one.field == "0x10"] == ["0x10", "0x10"]
        assert touched(hook.set_bad_pointer(0)) == []  # all is gone already


def test_a_row_of_calls_tells_what_all_of_them_changed(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_TOUCHES="sibling") as fake:
        for vcpu in (0, 1):
            fake.do(f"create {vcpu}")
        hook = fake.client()
        assert touched(hook.set_row(50, 0, QEMUS_MODEL).answer) == ["1: dr7 0x400 -> 0x0"]
        assert touched(hook.set_row(50, 0, QEMUS_MODEL).answer) == []
        fake.start()
        assert [one.vcpu for one in hook.set_row(50, 0, QEMUS_MODEL, live=True).answer.differences] == [0]


def test_an_undisturbed_call_and_a_sweep_tell_of_time_alone(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        fake.do("create 0")
        hook = fake.client()
        assert [one.field for one in hook.set(0, QEMUS_MODEL).differences] == ["0x10"]
        assert [one.field for one in hook.sweep(0)[1]] == ["0x10"]


def test_a_sweep_tells_what_it_changed(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_TOUCHES="sibling") as fake:
        fake.do("create 0")
        fake.do("set 0 3")
        fake.do("create 1")
        assert [str(one) for one in fake.client().sweep(0)[1] if one.vcpu == 1 and one.part != "msr"] == [
            "dr7 0x400 -> 0x0"
        ]


def test_a_live_call_reads_the_called_vcpu_alone(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_TOUCHES="dr7") as fake:
        for vcpu in (0, 1):
            fake.do(f"create {vcpu}")
            fake.start(vcpu)
        assert touched(fake.client().set(1, QEMUS_MODEL, live=True)) == ["1: dr7 0x400 -> 0x0"]


def test_a_vcpu_that_is_not_at_rest_makes_the_answer_worthless(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path) as fake:
        for vcpu in (0, 1):
            fake.do(f"create {vcpu}")
        fake.start(1)
        with pytest.raises(LabError, match="the state of vCPU 1 was not read"):
            fake.client().set(0, QEMUS_MODEL)
        fake.do("stop 1")
        assert fake.client().set(0, QEMUS_MODEL).ret == 0


def test_the_whole_state_before_and_after_the_last_set(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_TOUCHES="dr7") as fake:
        fake.do("create 0")
        hook = fake.client()
        with pytest.raises(LabError, match="err 61"):
            hook.state(0, "before")
        hook.set(0, QEMUS_MODEL)
        before, after = hook.state(0, "before").splitlines(), hook.state(0, "after").splitlines()
        assert {"dr7 0x400", "rip 0xffffffff81a0b2ab", "MSR 0x10a IA32_ARCH_CAPABILITIES -"} < set(before)
        assert {line.rpartition(" ")[0] for line in set(before) ^ set(after)} == {"dr7", "MSR 0x10 IA32_TSC"}


def test_a_part_that_kvm_has_and_does_not_tell_is_a_lab_failure(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_LACKS="xcrs") as fake:
        fake.do("create 0")
        with pytest.raises(LabError, match="xcrs of vCPU 0 cannot be read: EINVAL"):
            fake.client().set(0, QEMUS_MODEL)


def test_on_a_host_without_xsave_there_are_no_xcrs_to_compare(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_NO_XSAVE="1", FAKEKVM_TOUCHES="dr7") as fake:
        fake.do("create 0")
        assert touched(fake.client().set(0, QEMUS_MODEL)) == ["0: dr7 0x400 -> 0x0"]


def test_nothing_is_told_of_a_vm_that_kvm_has_given_up(built: Path, tmp_path: Path) -> None:
    with qemu(built, tmp_path, FAKEKVM_BUGGED="1") as fake:
        fake.do("create 0")
        assert touched(fake.client().set(0, QEMUS_MODEL)) == []


@pytest.mark.parametrize(
    ("source", "good", "bad", "complaint"),
    [
        ("msrs", "add(list->indices[i]);", "if (i) add(list->indices[i]);", "of 76 MSRs of vCPU 0 the hook has read"),
        ("msrs", "msr < more[i].count", "msr + 1 < more[i].count", "MSRs of vCPU 0 the hook has read"),
        ("state", '{ "debugregs",', "// ", "was read without debugregs"),
        ("state", '{ "xcrs",', "// ", "was read without xcrs"),
        ("watch", "report(out, watch->called);", "{ }", "the state of vCPU 0 was not read"),
    ],
)
def test_a_hook_that_hides_something_is_caught(
    tmp_path: Path, source: str, good: str, bad: str, complaint: str
) -> None:
    text = (HOOK / f"{source}.c").read_text()
    assert text.count(good) == 1
    with qemu(compiled(tmp_path, **{source: text.replace(good, bad)}), tmp_path) as fake:
        fake.do("create 0")
        with pytest.raises(LabError, match=complaint):
            fake.client().set(0, QEMUS_MODEL)


@pytest.mark.parametrize(
    "report",
    [
        [], [REPORT.replace("w 0", "w 1")], [REPORT.replace("+msr", "")], [REPORT + " 1"],
        [REPORT.replace("2 1", "1 1")], [REPORT.replace("4 1 2 1", "1 1 0 0")], [REPORT, "d 0 regs 0 1"],
        [REPORT, "d 0 regs x 1 2"],        [REPORT, "d 0 regs 0 z 2"], [REPORT, "n 1"], [REPORT, "u 0 lapic 22 22"],
    ],
)  # fmt: skip
def test_a_report_that_is_garbled_or_not_whole_is_a_lab_failure(report: list[str]) -> None:
    with pytest.raises(LabError):
        Hook(Script(*report, "ok ret=0 errno=0")).set(0, ())


def test_a_part_that_a_call_made_unreadable_is_a_difference() -> None:
    assert [str(one) for one in parse([REPORT, "u 0 lapic 0 5"], 0)] == ["LAPIC lapic readable -> EIO"]


def test_the_fields_of_a_word() -> None:
    def names(part: str, word: int) -> list[str]:
        return [name for _, _, name in fields_at(part, word)]

    assert names("regs", 16 * 8) == ["rip"]
    assert names("sregs", 8)[:3] == ["cs.limit", "cs.selector", "cs.type"]
    assert names("sregs", 224) == names("sregs2", 224) == ["cr0"]
    assert names("sregs2", 272) == ["apic_base"]
    assert names("sregs", 312) == ["sregs+0x138"]
    assert names("events", 8) == [
        "interrupt.injected", "interrupt.nr", "interrupt.soft", "interrupt.shadow",
        "nmi.injected", "nmi.pending", "nmi.masked", "nmi.pad",
    ]  # fmt: skip
    assert names("events", 56) == ["exception_payload"]
    assert names("xcrs", 16) == ["xcr0"]
    assert names("debugregs", 40) == ["dr7"]
    assert names("xsave", 24) == ["mxcsr", "mxcsr_mask"]
    assert names("xsave", 160) == ["xmm0[63:0]"]
    assert names("xsave", 584) == ["ymm0.high[127:64]"]
    assert names("lapic", 0x380) == ["TMICT"]
    assert names("lapic", 0x210) == ["IRR1"]
    assert names("nested", 8) == ["nested+0x8"]


def test_a_garbled_state_is_a_lab_failure() -> None:
    assert state_text(["s regs 128 ff", "s msr fe -"]) == "rip 0xff\nMSR 0xfe MTRRcap -\n"
    with pytest.raises(LabError):
        state_text(["regs"])


def test_each_row_of_the_table_has_its_reason_and_names_parts_that_are_read() -> None:
    rows = table()["moves"] + table()["accepted"].get("may", [])
    assert all(row["why"] and row["fields"] and row["part"] in (HOOK / "state.c").read_text() for row in rows)
    assert {row["how"] for row in table()["moves"]} <= {"any", "sets", "forward"}


@pytest.mark.parametrize(
    ("new", "is_left"), [("0x2", False), ("0xffffffffff", False), ("0x10000000001", True), ("0x0", True), ("-", True)]
)
def test_the_tsc_goes_forward_by_minutes_at_most(new: str, is_left: bool) -> None:
    moved = Difference(0, "msr", "0x10", "0x1", new)
    assert without_what_moves((moved,)) == ((moved,) if is_left else ())


@pytest.mark.parametrize("row", range(len(table()["moves"])))
def test_without_its_row_what_moves_is_a_difference(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    moves = table()["moves"]
    moved = Difference(0, moves[row]["part"], moves[row]["fields"][0].replace("*", "1"), "0x1", "0x3")
    assert without_what_moves([moved], live=True) == ()
    monkeypatch.setattr(state_rules, "table", lambda: {"moves": moves[:row] + moves[row + 1 :]})
    assert without_what_moves([moved], live=True) == (moved,)


def test_what_moves_only_while_others_run() -> None:
    arrived = Difference(0, "lapic", "IRR1", "0x1", "0x3")
    taken = Difference(0, "lapic", "IRR1", "0x3", "0x1")
    assert without_what_moves((TSC, DR7, arrived, taken)) == (DR7, arrived, taken)
    assert without_what_moves((TSC, DR7, arrived, taken), live=True) == (DR7, taken)


def test_what_an_accepted_change_may_alter(monkeypatch: pytest.MonkeyPatch) -> None:
    may = [{"part": "debugregs", "fields": ["dr7"], "names": ["nx"], "why": "a test"}]
    monkeypatch.setattr(state_rules, "table", lambda: {"accepted": {"names": ["nx", "pcid"], "may": may}})
    other = Difference(1, "debugregs", "dr7", "0x400", "0x0")
    assert not_of_a_change("nx=off", (DR7, TSC, other), 0) == (TSC, other)
    assert not_of_a_change("pcid=off", (DR7, TSC), 0) == (DR7, TSC)
    assert not_of_a_change("pcid=off,nx=off", (DR7, TSC), 0) == (TSC,)
    assert not_of_a_change("unheard_of", (DR7, TSC, other), 0) == (other,)


def test_a_wake_up_is_counted_late_and_only_counted_up() -> None:
    counted = Difference(1, "stat", "halt_wakeup", "0x650", "0x651")
    undone = Difference(1, "stat", "halt_wakeup", "0x651", "0x650")
    assert without_what_moves((counted, undone)) == (counted, undone)
    assert without_what_moves((counted, undone), live=True) == (undone,)
