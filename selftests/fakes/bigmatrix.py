"""A matrix as a full run leaves it, invented: the real promises on ten kernels, with everything that can happen.

PYTHONPATH=tooling python selftests/fakes/bigmatrix.py FOLDER    # writes FOLDER/matrix.html with all that belongs to it
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cpuidlab.base.paths import PROJECT
from cpuidlab.experiment.facts import facts_of
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED, Fate, GuestReport, Observation, VcpuAnswer, to_json
from cpuidlab.judge.discrepancies import Expectation
from cpuidlab.judge.eras import Era, era
from cpuidlab.judge.expectations import (
    changed,
    changed_at_own_risk,
    identical,
    identical_while_pending,
    never_run,
    untouched,
    with_nested_state,
)
from cpuidlab.judge.history import at
from cpuidlab.judge.prediction import PATCH
from cpuidlab.judge.verdict import Verdict, judge
from cpuidlab.kernels.version import place
from cpuidlab.kvm.kmsg import Record, to_text
from cpuidlab.kvm.warning import WARNING_LINES
from cpuidlab.report.cell import Cell
from cpuidlab.report.promise_titles import question_of, words_of
from cpuidlab.report.report import Report, report_of
from cpuidlab.report.write import write_all

HEADER = {
    "carrier": "Linux 6.1.0-48-amd64 on this machine",
    "hosts": "10 kernels, named above their columns",
    "guest": "6.1.0-56-cloud-amd64",
    "emulator": "QEMU emulator version 7.2.22",
    "accelerator": "tcg",
    "rigs": "saved once, restored for every test",
    "date": "2026-11-22 03:12:46 +0000",
    "duration": "1012 s",
}
PAGINGS = ("npt", "shadow")
SICK = GuestReport(False, ("oops: Oops: 0009 [#1] PREEMPT SMP NOPTI",))


@dataclass(frozen=True)
class Host:
    """One kernel: `says` is the era by version or patch (`by`), `does` the one it really behaves like."""

    label: str
    release: str
    says: Era
    does: Era
    by: str


def host(label: str, release: str, does: str = "", says: str = "") -> Host:
    predicted = era(says) if says else at(place(release).first)[0]
    return Host(label, release, predicted, era(does) if does else predicted, PATCH if says else "upstream version")


HOSTS = (
    host("7.3", "7.3.1-cloud-amd64"),
    host("5.10", "5.10.0-46-cloud-amd64"),
    host("5.10+warning", "5.10.0-46-cloud-amd64", says="warn"),
    host("6.1", "6.1.0-56-cloud-amd64"),
    host("6.12", "6.12.107+deb13-cloud-amd64"),
    host("6.16", "6.16.12+deb13-cloud-amd64"),
    host("6.17", "6.17.13+deb13-cloud-amd64"),
    host("6.18", "6.18.15+deb13-cloud-amd64"),
    host("6.18.2", "6.18.2+deb13-cloud-amd64", does="forbid-changed"),  # the mend of 6.18.3, backported
    host("7.2", "7.2.4-cloud-amd64"),
)
# what goes wrong, by host, paging and case
UNTESTED = (("7.2", "shadow", "under_load"), ("7.3", "npt", "replug"))
LOST = {("6.12", "npt", "changes/smep_off"), ("6.12", "shadow", "live/identical"), ("7.2", "npt", "host_log/burst")}
SKIPPED = {(one.label, paging, "changes/la57_off") for one in HOSTS for paging in PAGINGS}
# where guests die though nobody promises it; the last one is QEMU's own end
AT_RISK = ("guest_brings_up_a_narrower_cpu", "maxphyaddr_32_below_ram", "one_of_two_above_ram")
ENDS_QEMU = "other_features"
BROKEN = {("7.3", "shadow", "identical/after_get"), ("7.3", "npt", "has_run_stays/after_init")}


def cases() -> Iterator[tuple[str, str, str]]:
    """Case, class and route of every test there is, by their source."""
    for path in sorted(PROJECT.glob("tests/test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.ClassDef):
                continue
            stem = path.stem.removeprefix("test_")
            route = "replug" if stem == "replug" else "hook"
            for test in node.body:
                if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                    yield f"{stem}/{test.name.removeprefix('test_')}", node.name, route


def expected(case: str, of: Era, paging: str) -> Expectation:
    """About what the tests expect; good enough to look at."""
    group, _, test = case.partition("/")
    question = question_of(case)
    if group == "failed_calls":
        return Expectation({"bad_pointer": "EFAULT", "bad_entries": "EFAULT"}.get(test, "E2BIG"), model="before")
    if case == "before_run/with_nested_state":
        return with_nested_state(of)
    if question == "before":
        return replace(never_run(of), guest=None if test in AT_RISK else "stable")
    if question != "changed":
        return {"same": identical, "pending": identical_while_pending}.get(question or "", untouched)(of)
    promised, shadows = changed(of), of.lines and paging == "shadow"
    if test in AT_RISK:
        promised = changed_at_own_risk(of)
    if group == "missed_fault":
        notes = (Note.MISSED_FAULT, Note.FAULT) if shadows else (Note.NO_FAULT, Note.NO_FAULT)
        promised = replace(promised, notes=notes)
    if group == "released_fault" and shadows:
        promised = replace(promised, notes=(Note.HARMLESS, Note.KILLED), guest="harmed")
    if test == ENDS_QEMU:
        promised = replace(promised, guest="stable" if of.changed == ACCEPTED else None)
    return replace(promised, notes=(Note.LOAD_VERIFIED,)) if group == "under_load" else promised


def observed(test: str, promised: Expectation, paging: str) -> Observation:
    """What a kernel that keeps this promise shows."""
    log = [Record(4, 0, n, 28.4 + n / 100, text) for n, text in enumerate(WARNING_LINES * (2 if promised.warns else 0))]
    hang = "hangs: vCPU 0 does not get past RIP ffffffffa0c73914 (CPL 0), 12 of 12 looks"
    dead = Fate(False, hang if paging == "shadow" else "triple fault (KVM_EXIT_SHUTDOWN)", 0.4, 0)
    if test == ENDS_QEMU:
        dead = Fate(False, "QEMU died: kvm_init_vcpu: kvm_arch_init_vcpu failed (1): Invalid argument", None, 1)
    dies, sick = test in (*AT_RISK, ENDS_QEMU) and promised.guest is None, promised.guest == "harmed"
    return Observation(
        answers=tuple(VcpuAnswer(vcpu, promised.answer) for vcpu in (0, 1)) if promised.answer else (),
        model=None if dies else promised.model,
        host_log=tuple(log),
        guest=None if promised.guest is None else SICK if sick else GuestReport(True),
        fate=dead if dies else Fate(True),
        notes=promised.notes or (),
    )


def cell_of(one: Host, paging: str, case: str, test: str, route: str) -> tuple[Cell, Observation | None]:
    """One cell and what was seen for it."""
    folder = f"test-results/{case.replace('/', '.')}-{one.label}-{paging}/data"
    plain = Cell(
        case,
        one.label,
        one.release,
        paging,
        route,
        "tcg",
        one.says.name,
        one.does.name,
        None,
        Verdict.PASS,
        "",
        folder,
        one.by,
    )
    name = f"test_{case.partition('/')[0]}.py:{test}.test_{case.partition('/')[2]}"
    rerun = f".venv/bin/avocado run tests/{name} --hosts {one.label} --paging {paging}"
    place = (one.label, paging, case)
    if place in LOST:
        text = f"waited 12.0 s in vain for SSH to the guest on {one.label}-{paging}; rerun: {rerun}"
        return replace(plain, probed="", verdict=Verdict.ERROR, reason=text), None
    if place in SKIPPED:
        return replace(plain, probed="", verdict=Verdict.SKIP, reason="this CPU model has no la57"), None
    promised = expected(case, one.does, paging)
    if place in BROKEN:
        promised = replace(promised, answer="EBUSY" if promised.answer == ACCEPTED else ACCEPTED)
    seen = observed(case.partition("/")[2], promised, paging)
    judged = judge(lambda of: expected(case, of, paging), one.says, one.does, seen, promise=words_of(case), rerun=rerun)
    return replace(plain, facts=facts_of(seen), verdict=judged.verdict, reason=judged.reason), seen


def big() -> tuple[tuple[Cell, Observation | None], ...]:
    """All the cells, each with what was seen."""
    return tuple(
        cell_of(one, paging, case, test, route)
        for case, test, route in cases()
        for one in HOSTS
        for paging in PAGINGS
        if not any((one.label, paging) == place[:2] and case.startswith(place[2]) for place in UNTESTED)
    )


def save(folder: Path) -> tuple[Cell, ...]:
    """Write the evidence of every cell as a run does; return the cells."""
    for cell, seen in big():
        data = folder / cell.evidence
        data.mkdir(parents=True, exist_ok=True)
        (data / "rerun.txt").write_text(f"avocado run {cell.case} --hosts {cell.host} --paging {cell.paging}\n")
        if seen is None:
            (data / "lab-failure.txt").write_text(f"{cell.reason}\n\n[119] Child connection from 10.0.2.2:56190\n")
            continue
        (data / "observation.json").write_text(to_json(seen))
        (data / "host-log.txt").write_text(to_text(seen.host_log))
        line = "leaf 0x80000008 EAX: 0x00003028 -> 0x00003024 (maxphyaddr 40 -> 36)"
        diff = line if seen.model == "asked" and "maxphyaddr" in cell.case else "unchanged"
        (data / "models-diff.txt").write_text("".join(f"vCPU {vcpu}: {diff}\n" for vcpu in (0, 1)))
    return tuple(cell for cell, _ in big())


def report_of_all(cells: Sequence[Cell]) -> Report:
    """The report on these cells as after a job that was to test every host in both paging modes."""
    return report_of(cells, header=HEADER, planned=[(one.label, paging) for one in HOSTS for paging in PAGINGS])


if __name__ == "__main__":
    target = Path(sys.argv[1])
    cells = save(target)
    write_all(report_of_all(cells), target)
    print(f"{len(cells)} cells: {target / 'matrix.html'}, {(target / 'matrix.html').stat().st_size} bytes")
