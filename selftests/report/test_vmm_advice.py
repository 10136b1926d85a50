"""What a VMM may do, and where each kernel stands, on a matrix in which everything happens."""

from collections.abc import Sequence
from dataclasses import replace

import bigmatrix
import pytest
from cells import REFUSED
from cpuidlab.experiment.facts import Facts
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import VcpuAnswer
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell
from cpuidlab.report.host_era import Standing
from cpuidlab.report.markdown import markdown
from cpuidlab.report.page import html
from cpuidlab.report.report import report_of
from cpuidlab.report.vmm_advice import RULES, Advice

TAKEN = (VcpuAnswer(0, "accepted"),)
BIG = tuple(cell for cell, _ in bigmatrix.big())


def only(host: str, *without: str) -> list[Cell]:
    return [cell for cell in BIG if cell.host == host and not cell.case.startswith(without)]


def advised(cells: Sequence[Cell]) -> Advice:
    (one,) = report_of(cells).advice
    return one


def standing(cells: Sequence[Cell]) -> Standing:
    (one,) = report_of(cells).standings
    return one


def test_the_page_says_where_cpuid_must_not_be_set_again() -> None:
    found = {rule.key: hosts for rule, hosts in report_of(BIG).leads.items()}
    assert found == {
        "never": ("6.16", "6.17", "7.3"),  # of 7.3 the big matrix has a refusal that no version promises
        "same": ("6.1", "6.12", "6.18.2", "6.18", "7.2"),
        "warned": ("5.10+warning",),
        "silent": ("5.10",),
    }


def test_what_happens_is_told() -> None:
    told = {one.host: one for one in report_of(BIG).advice}
    assert "after a reset, and the CPUID that KVM then reports is wrong" in told["6.16"].same
    assert told["6.1"].same == "Yes: what it has is accepted."
    assert told["6.1"].changed.startswith("No: refused with EINVAL; the guest goes on")
    assert "QEMU ended after the refusal, and the guest with it, in “other features”" in told["6.1"].changed
    died = "The guest died afterwards in “maxphyaddr 32 below ram”, “one of two above ram” (npt and shadow, accelerator"
    assert died in told["5.10"].changed
    assert "missed a page fault" in told["5.10+warning"].changed
    assert "Not so in “after init”." in told["7.3"].changed
    assert told["7.3"].same == "Not always: refused with EBUSY in “after get”."
    assert told["5.10"].before.startswith("Yes: any")
    assert "L2" not in told["6.18"].before
    assert "times. But another one is refused with EINVAL while L2 is active in the vCPU." in told["7.2"].before


def test_what_was_seen_of_guests_is_told_with_paging_mode_and_accelerator_and_promised_of_no_era() -> None:
    cells = only("5.10")
    told = advised([cell for cell in cells if (cell.case, cell.paging) != ("under_load/one_of_two_above_ram", "npt")])
    assert (
        "in “maxphyaddr 32 below ram” (npt and shadow, accelerator tcg), “one of two above ram” (shadow,"
        in told.changed
    )
    real = [replace(cell, accel="kvm (amd)") if cell.paging == "npt" else cell for cell in cells]
    assert "“one of two above ram” (npt, accelerator kvm (amd); shadow, accelerator tcg)" in advised(real).changed
    assert not [rule for rule in RULES.values() if "kill" in rule.lead]


def test_a_guest_that_other_vcpus_take_over_is_not_protected() -> None:
    case = "takeover/gbpages_off"
    seen = replace(only("6.1")[0], case=case, paging="shadow", facts=Facts(answers=TAKEN, notes=(Note.FAULT,)))
    told = advised([*only("6.1", "takeover"), seen]).before
    assert told.endswith("saved snapshot): it was harmed in “gbpages off” (shadow, accelerator tcg).")
    unharmed = replace(seen, facts=Facts(answers=TAKEN, notes=(Note.NO_FAULT,)))
    assert "live migration" not in advised([*only("6.1", "takeover"), unharmed]).before


def test_a_defect_that_was_not_tested_is_not_forgotten() -> None:
    one = advised(only("6.16", "false_refusal"))
    assert one.rule.key == "never"
    assert one.same.endswith("known to refuse it at times, after a reset for one; not tested here.")
    assert advised(only("6.18.2", "false_refusal")).rule.key == "same"  # a probe says that it is mended


def test_where_too_little_was_tested_nothing_is_said() -> None:
    lost = [replace(cell, verdict=Verdict.ERROR, facts=None) for cell in only("6.1")]
    for cells in (lost, [cell for cell in BIG if cell.case == "untouched/nothing_changed" and cell.host == "6.1"]):
        one = advised(cells)
        assert (one.rule.key, one.before, one.same, one.changed) == ("unknown", *["not tested"] * 3)
    (planned,) = report_of((), planned=[("6.1", "npt")]).advice
    assert (planned.host, planned.rule.key) == ("6.1", "unknown")


def test_an_error_is_no_answer() -> None:
    cells = only("6.1")
    broken = replace(cells[2], case="live/identical", facts=REFUSED, verdict=Verdict.ERROR)
    assert advised([*cells, broken]).rule.key == "same"
    assert advised([*cells, replace(broken, verdict=Verdict.FAIL)]).rule.key == "never"


def test_three_answers_side_by_side() -> None:
    found = {one.host: one for one in report_of(BIG).standings}
    assert list(found) == ["5.10", "5.10+warning", "6.1", "6.12", "6.16", "6.17", "6.18.2", "6.18", "7.2", "7.3"]
    for host, one in found.items():
        wanted = next(host_ for host_ in bigmatrix.HOSTS if host_.label == host)
        assert (one.predicted, one.probed, one.seen) == (wanted.says.name, wanted.does.name, wanted.does.name)
        assert one.source == ("patch" if host == "5.10+warning" else "upstream version")
        assert bool(one.note) == (wanted.says is not wanted.does)
    assert found["6.18.2"].note == "a backport: as Linux from 6.18.3 until 7.0 (e2b43fb25243)"
    assert found["7.3"].told == f"forbid-changed-l2, {found['7.3'].asked - 2} of {found['7.3'].asked} cells"
    assert found["7.3"].meaning == "they agree, but not in every cell"


@pytest.mark.parametrize(
    ("values", "source"),
    [
        ({"predicted_by": "candidate"}, "candidate"),
        ({"predicted": "unknown", "predicted_by": "vendor rule"}, "vendor rule"),
        ({"predicted_by": ""}, "not recorded"),  # by an older version
        ({"predicted": "", "predicted_by": ""}, "none"),
    ],
)
def test_where_the_prediction_comes_from(values: dict[str, str], source: str) -> None:
    cells = [replace(cell, **values) for cell in only("6.1")]
    assert standing(cells).source == source
    known = values.get("predicted") is None
    assert standing(cells).meaning == ("they agree" if known else "nothing is predicted that it could be held against")
    report = report_of(cells)
    assert f"| {source} |" in markdown(report)
    assert f"<td>{source}</td>" in html(report)


@pytest.mark.parametrize(
    ("says", "note"),
    [
        ("silent", "a backport: as Linux from 5.14 until 5.16 (63f5a1909f9e)"),
        ("forbid-changed", "as Linux from 5.14 until 5.16, before feb627e8d6f6"),
        ("warn", ""),
        ("an era of another release", ""),
        ("", ""),
    ],
)
def test_what_it_means_that_they_differ(says: str, note: str) -> None:
    cells = [replace(cell, predicted=says, probed="") for cell in only("5.10+warning")]
    assert (standing(cells).seen, standing(cells).note) == ("warn", note)


def test_eras_that_the_tests_cannot_tell_apart_are_the_predicted_one() -> None:
    for host in ("6.16", "7.2"):
        assert standing(only(host, "false_refusal")).seen == standing(only(host)).predicted
