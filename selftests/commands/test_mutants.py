"""Mutants: the heads of those that are shipped, and how a hunt judges what the tests say; nothing is built."""

import ast
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.commands import avocado_job, cli, mutants, mutation_report, mutation_run, repeat
from cpuidlab.commands.mutants import Killer
from cpuidlab.commands.mutation_run import Outcome
from cpuidlab.judge.verdict import Verdict
from cpuidlab.kernels import lookup, patches
from cpuidlab.report.cell import Cell
from cpuidlab.report.report import report_of
from cpuidlab.report.write import UNFINISHED, write_all

SHIPPED = mutants.shipped()
HEAD = """\
Breaks: a promise;
 here it is not kept
Host: 6.1
Killers: npt test_a.py:A.test_b
 shadow test_c.py:C.test_d

--- a/x
"""


def cell(verdict: Verdict, case: str = "a/b", reason: str = "what was seen\nmore") -> Cell:
    return Cell(case, "6.1+x", "6.1.0", "npt", "hook", "tcg", "e", "e", None, verdict, reason, "")


@pytest.fixture
def mutant(tmp_path: Path) -> mutants.Mutant:
    path = tmp_path / "fault.patch"
    path.write_text(HEAD)
    return mutants.read(path)


def methods(file: Path) -> set[str]:
    """Class.method of each test in a file, without importing it."""
    classes = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)]
    return {f"{one.name}.{node.name}" for one in classes for node in one.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("mutant", SHIPPED, ids=lambda mutant: mutant.name)
def test_a_shipped_mutants_killers_are_tests(mutant: mutants.Mutant) -> None:
    for killer in mutant.killers:
        file, _, name = mutants.locate(killer.test).partition(":")
        assert name in methods(mutants.PROJECT / file)


def test_shipped_mutants_differ_and_cover_three_hosts() -> None:
    diffs = {mutant.path.read_text().partition("\n--- ")[2] for mutant in SHIPPED}
    assert len({mutant.breaks + mutant.host for mutant in SHIPPED}) == len(diffs) == len(SHIPPED) >= 25
    assert list(dict.fromkeys(mutant.host for mutant in SHIPPED)) == ["5.10+warning", "6.1", "7.3"]


def test_a_mutant_stands_on_its_host_and_is_judged_by_its_era() -> None:
    for mutant in SHIPPED:
        patch = patches.find(str(mutant.path))
        assert mutant.spec == f"{mutant.host.partition('+')[0]}+tooling/mutants/{mutant.name}.patch"
        assert patch.era == ("warn" if mutant.host == "5.10+warning" else None)


def test_a_head_is_read(mutant: mutants.Mutant) -> None:
    assert (mutant.host, mutant.breaks) == ("6.1", "a promise; here it is not kept")
    assert mutant.killers == (Killer("npt", "test_a.py:A.test_b"), Killer("shadow", "test_c.py:C.test_d"))
    assert mutant.equivalent is None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("Breaks:", "Brakes:", "lacks 'Breaks:'"),
        ("Host:", "Most:", "lacks 'Host:'"),
        ("Killers:", "Killer:", "lacks 'Killers:'"),
        ("6.1", "six", "known forms"),
        ("npt ", "ept ", "a killer is"),
        (":A.test_b", "", "a killer is"),
    ],
)
def test_a_bad_head_is_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "bad.patch"
    path.write_text(HEAD.replace(old, new))
    with pytest.raises(UsageError, match=told):
        mutants.read(path)


def test_unknown_names_are_told() -> None:
    with pytest.raises(UsageError, match="no mutant named 'no-such'"):
        mutants.shipped(["first-line-only", "no-such"])
    with pytest.raises(UsageError, match=r"no test_no_such\.py in tests"):
        mutants.locate("test_no_such.py:A.test_b")
    assert [one.name for one in mutants.shipped(["first-line-only", "first-line-only"])] == ["first-line-only"]


P, F, E, S = Verdict.PASS, Verdict.FAIL, Verdict.ERROR, Verdict.SKIP


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ([F], Outcome.KILLED),
        ([P, Verdict.WARN], Outcome.KILLED),
        ([P, Verdict.KNOWN], Outcome.KILLED),
        ([E, F], Outcome.KILLED),
        ([P, E], Outcome.ERROR),
        ([P, S], Outcome.SURVIVED),
        ([S], Outcome.ERROR),
        ([], Outcome.ERROR),
    ],
)
def test_judging(mutant: mutants.Mutant, verdicts: list[Verdict], outcome: Outcome) -> None:
    result = mutation_run.judged(mutant, [cell(verdict, case=f"{verdict}") for verdict in verdicts])
    assert result.outcome is outcome
    if outcome is Outcome.KILLED:
        assert (result.by, result.line) == (f"{verdicts[-1]} npt", "what was seen")


def test_equivalent_is_one_that_is_argued_and_survives(mutant: mutants.Mutant) -> None:
    argued = replace(mutant, equivalent="nobody can tell")
    assert mutation_run.judged(argued, [cell(P)]).outcome is Outcome.EQUIVALENT
    assert mutation_run.judged(argued, [cell(F)]).outcome is Outcome.KILLED


class Jobs:
    """Stands for Avocado: answers each job with the next verdicts, and notes what it was asked."""

    def __init__(self, *answers: list[Verdict] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Sequence[str], str, str, tuple[str, ...]]] = []

    def run(self, tests: Sequence[str], hosts: str, paging: str, into: Path, *more: str, seconds: float) -> list[Cell]:
        self.asked.append((tests, hosts, paging, more))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [cell(verdict) for verdict in answer]


def hunted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mutant: mutants.Mutant, *answers: list[Verdict] | Exception
) -> tuple[Outcome, Jobs]:
    fake = Jobs(*answers)
    monkeypatch.setattr(avocado_job, "run", fake.run)
    monkeypatch.setattr(lookup, "resolve", lambda spec: None)
    monkeypatch.setattr(mutation_run, "locate", lambda test: f"tests/{test}")
    (result,) = mutation_run.hunt([mutant], tmp_path)
    assert not fake.answers
    return result.outcome, fake


def test_the_first_kill_ends_the_hunt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mutant: mutants.Mutant) -> None:
    outcome, fake = hunted(monkeypatch, tmp_path, mutant, [F])
    assert outcome is Outcome.KILLED
    assert fake.asked == [(("tests/test_a.py:A.test_b",), mutant.spec, "npt", ("--cold",))]


def test_what_its_killers_miss_meets_the_whole_suite(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mutant: mutants.Mutant
) -> None:
    outcome, fake = hunted(monkeypatch, tmp_path, mutant, [P], [E], [P, P])
    assert outcome is Outcome.SURVIVED
    assert [asked[2] for asked in fake.asked] == ["npt", "shadow", "npt,shadow"]
    argued = replace(mutant, equivalent="nobody can tell")
    assert hunted(monkeypatch, tmp_path, argued, [P], [P], [P])[0] is Outcome.EQUIVALENT
    assert hunted(monkeypatch, tmp_path, argued, [P], [P], [P, F])[0] is Outcome.KILLED


def test_a_job_that_fails_kills_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mutant: mutants.Mutant
) -> None:
    lost = LabError("the guest does not boot")
    assert hunted(monkeypatch, tmp_path, mutant, lost, lost)[0] is Outcome.ERROR
    assert hunted(monkeypatch, tmp_path, mutant, lost, [F])[0] is Outcome.KILLED


def test_what_does_not_compile_is_not_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mutant: mutants.Mutant
) -> None:
    def resolve(_: str) -> None:
        raise UsageError("it does not compile")

    monkeypatch.setattr(lookup, "resolve", resolve)
    (result,) = mutation_run.hunt([mutant], tmp_path)
    assert (result.outcome, result.line) == (Outcome.NOT_BUILT, "it does not compile")
    assert mutation_run.build([mutant])[0].outcome is Outcome.NOT_BUILT


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([Outcome.KILLED, Outcome.EQUIVALENT], 0),
        ([Outcome.KILLED, Outcome.ERROR], 125),
        ([Outcome.NOT_BUILT], 125),
        ([Outcome.ERROR, Outcome.SURVIVED], 1),
        ([Outcome.BUILT], 0),
    ],
)
def test_exit_codes(mutant: mutants.Mutant, outcomes: list[Outcome], code: int) -> None:
    assert mutation_run.exit_code([mutation_run.Result(mutant, outcome) for outcome in outcomes]) == code


def test_the_page_and_the_data(mutant: mutants.Mutant) -> None:
    results = [
        mutation_run.Result(mutant, Outcome.KILLED, "a/b npt", "seen a|b instead", 12.0),
        mutation_run.Result(replace(mutant, name="other"), Outcome.SURVIVED),
    ]
    page = mutation_report.markdown(results)
    assert "2 mutants: 1 killed, 1 survived. The first test named killed 1 of 1.\n" in page
    row = "| 6.1 | `fault` | a promise; here it is not kept | killed | a/b npt | 1 of 2 | seen a\\|b instead |"
    assert row in page.splitlines()
    older = replace(mutant, name="older", host="5.10+warning")
    again = mutation_report.markdown([mutation_run.Result(older, Outcome.KILLED, "a/b npt")], page, {"fault", "older"})
    assert [line.split(" | ")[1] for line in again.splitlines() if "| `" in line] == ["`older`", "`fault`"]
    assert row in again.splitlines()
    assert "2 mutants: 2 killed. The first test named killed 2 of 2.\n" in again
    assert "have no row" not in again
    assert "1 more are in `tooling/mutants/` and have no row, for the suite has not met them yet: `new`." in (
        mutation_report.markdown([], again, {"fault", "older", "new"})
    )
    data = json.loads(mutation_report.to_json(results))
    assert data["mutants"][0]["killers"][1] == {"paging": "shadow", "test": "test_c.py:C.test_d"}
    assert mutation_report.table(results).splitlines()[1].startswith("survived   6.1")


@pytest.mark.parametrize(
    ("outcome", "by", "which"),
    [
        (Outcome.KILLED, "a/b npt", "1 of 2"),
        (Outcome.KILLED, "c/d shadow", "2 of 2"),
        (Outcome.KILLED, "c/d npt", "none of 2"),
        (Outcome.ERROR, "a/b npt", ""),
        (Outcome.SURVIVED, "", ""),
    ],
)
def test_the_page_says_which_of_its_tests_killed_it(
    mutant: mutants.Mutant, outcome: Outcome, by: str, which: str
) -> None:
    assert mutation_report.which(mutation_run.Result(mutant, outcome, by)) == which


def test_a_job_leaves_its_matrix_whatever_its_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(line: Sequence[str], **_: object) -> str:
        folder = Path(line[line.index("--job-results-dir") + 1], "job-1")
        if "--hosts" in line and "5.10" in line:
            folder.mkdir(parents=True)
            (folder / "matrix.json").write_text('{"schema": 1, "cells": []}')
        raise LabError("avocado failed with exit code 1: a reason")

    monkeypatch.setattr(avocado_job.command, "run", run)
    assert avocado_job.run(["tests/"], "5.10", "npt", tmp_path / "a", seconds=1) == ()
    with pytest.raises(LabError, match="a reason"):
        avocado_job.run(["tests/"], "6.1", "npt", tmp_path / "b", seconds=1)


@pytest.mark.parametrize(("verdict", "is_read"), [(P, False), (F, True)])
def test_a_job_that_was_cut_short_says_nothing_but_a_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verdict: Verdict, is_read: bool
) -> None:
    def run(*_: object, **__: object) -> None:
        folder = tmp_path / "job-1"
        folder.mkdir()
        write_all(report_of([cell(verdict)], header={UNFINISHED: "7 tests"}), folder)

    monkeypatch.setattr(avocado_job.command, "run", run)
    if is_read:
        assert len(avocado_job.run(["tests/"], "5.10", "npt", tmp_path, seconds=1)) == 1
    else:
        with pytest.raises(LabError, match="cut short: 7 tests were not run"):
            avocado_job.run(["tests/"], "5.10", "npt", tmp_path, seconds=1)


def test_a_lost_round_hides_no_alarm_and_is_no_good_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(avocado_job, "new_folder", lambda name: tmp_path)
    for answers, code in (([[F], LabError("no matrix")], 1), ([LabError("no matrix"), [P]], 125)):
        monkeypatch.setattr(avocado_job, "run", Jobs(*answers).run)
        assert repeat.main(2) == code
        said = capsys.readouterr().out
        assert "of 2 was lost: no matrix" in said
        assert "2 rounds on 5.10+warning,6.1, 1 of them lost: " in said
    with pytest.raises(UsageError, match=r"host 'nonsense' is not understood"):
        repeat.main(1, "nonsense")


def test_steady_counts_every_alarm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(avocado_job, "new_folder", lambda name: tmp_path)
    for answers, code in (([[P, P], [P, S]], 0), ([[P], [P, F]], 1), ([[P], [Verdict.WARN]], 1), ([[P], [P, E]], 125)):
        fake = Jobs(*answers)
        monkeypatch.setattr(avocado_job, "run", fake.run)
        assert repeat.main(2) == code
        assert fake.asked[0][1:3] == ("5.10+warning,6.1", "npt,shadow")
        said = capsys.readouterr().out.splitlines()
        assert said[0].startswith("round 1 of 2: ")
        assert f"; {int(code > 0)} false alarms; " in said[-1]
    with pytest.raises(UsageError, match="at least one"):
        repeat.main(0)


def test_the_command_lists_and_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["mutants", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(SHIPPED)
    assert cli.main(["mutants", "nonsense"]) == 2
    assert cli.main(["mutants", "--json", "/no/such/folder/file"]) == 2
    assert cli.main(["mutants", "--markdown", "/proc"]) == 2
    assert cli.main(["steady", "--rounds", "0"]) == 2
