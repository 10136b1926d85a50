"""matrix.json: its form, and files that hold something else."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cells import CELL, REFUSED, WARNED
from cpuidlab.base.errors import UsageError
from cpuidlab.experiment.facts import Answer, GuestState
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import Touched
from cpuidlab.judge.verdict import Verdict
from cpuidlab.kvm.vcpu_state import Difference
from cpuidlab.report.matrix_file import read, write

TOUCHED = Touched(0, 2, "EINVAL", "nx=off", (Difference(1, "debugregs", "dr7", "0x400", "0x0"),))
RICH = replace(
    WARNED, model="other", guest=GuestState.DIED, ended="triple fault", notes=(Note.MISSED_FAULT, Note.FAULT),
    touched=(TOUCHED,),
)  # fmt: skip
CELLS = (
    replace(CELL, facts=RICH),
    replace(CELL, facts=REFUSED),
    replace(CELL, facts=None, verdict=Verdict.ERROR),
    replace(CELL, facts=replace(WARNED, answers=(Answer(None, "errno 524"),), lines=None, model=None)),
)


def written(folder: Path) -> dict[str, Any]:
    write(CELLS, folder / "matrix.json")
    data: dict[str, Any] = json.loads((folder / "matrix.json").read_text())
    return data


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write(CELLS, tmp_path / "matrix.json")
    assert read(tmp_path / "matrix.json") == CELLS


def test_the_form(tmp_path: Path) -> None:
    data = written(tmp_path)
    assert data["schema"] == 2
    assert " ".join(data["cells"][0]) == (
        "case host release paging route accel predicted predicted_by probed facts observed verdict reason evidence"
    )
    assert data["cells"][0]["facts"] == {
        "answers": [{"vcpu": 0, "answer": "accepted"}, {"vcpu": 1, "answer": "accepted"}],
        "lines": [2, 2],
        "model": "other",
        "guest": "died",
        "ended": "triple fault",
        "notes": ["missed_fault", "fault"],
        "touched": [
            {
                "vcpu": 0, "call": 2, "answer": "EINVAL", "change": "nx=off",
                "differences": [{"vcpu": 1, "part": "debugregs", "field": "dr7", "old": "0x400", "new": "0x0"}],
            }
        ],
    }  # fmt: skip
    assert data["cells"][2]["facts"] is None
    assert [cell["observed"] for cell in data["cells"]][1:3] == ["refused EINVAL", ""]


def test_a_file_that_does_not_say_what_the_prediction_comes_from_is_read(tmp_path: Path) -> None:
    data = written(tmp_path)
    for cell in data["cells"]:
        assert cell.pop("predicted_by") == "upstream version"
    (tmp_path / "matrix.json").write_text(json.dumps(data))
    assert read(tmp_path / "matrix.json") == tuple(replace(cell, predicted_by="") for cell in CELLS)
    data["cells"][0]["predicted_by"] = None
    (tmp_path / "matrix.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match="cell 1 has a value that is no string"):
        read(tmp_path / "matrix.json")


def test_a_file_from_before_the_state_was_read_is_read(tmp_path: Path) -> None:
    data = written(tmp_path)
    for cell in data["cells"]:
        if cell["facts"]:
            del cell["facts"]["touched"]
    (tmp_path / "matrix.json").write_text(json.dumps(data))
    assert read(tmp_path / "matrix.json")[0].facts == replace(RICH, touched=())


def test_the_words_are_not_read_back(tmp_path: Path) -> None:
    data = written(tmp_path)
    for cell in data["cells"]:
        cell["observed"] = "anything at all"
    (tmp_path / "matrix.json").write_text(json.dumps(data))
    assert read(tmp_path / "matrix.json") == CELLS


def edit_facts(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda cell: cell["facts"].update(values)


def answers(*raw: Any) -> Callable[[dict[str, Any]], Any]:
    return edit_facts(answers=list(raw))


def edit_touched(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda cell: cell["facts"]["touched"][0].update(values)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda cell: cell.pop("facts"), "just these keys"),
        (lambda cell: cell.update(more=""), "just these keys"),
        (lambda cell: cell.update(probed=None), "no string"),
        (lambda cell: cell.update(observed=["silent"]), "no string"),
        (lambda cell: cell.update(verdict="GOOD"), "verdict 'GOOD'"),
        (lambda cell: cell.update(host="\ud800"), "half of a surrogate pair"),
        (lambda cell: cell.update(facts="silent"), "'facts' should be null or have just these keys"),
        (lambda cell: cell.update(facts={}), "'facts' should be null or have just these keys"),
        (lambda cell: cell["facts"].pop("notes"), "'facts' should be null or have just these keys"),
        (edit_facts(more=1), "'facts' should be null or have just these keys"),
        (edit_facts(answers={}), "'answers' should be a list"),
        (edit_facts(answers=None), "'answers' should be a list"),
        (answers("accepted"), "just the keys vcpu, answer"),
        (answers({"answer": "accepted"}), "just the keys vcpu, answer"),
        (answers({"vcpu": -1, "answer": "accepted"}), "'vcpu' should be"),
        (answers({"vcpu": True, "answer": "accepted"}), "'vcpu' should be"),
        (answers({"vcpu": 0.0, "answer": "accepted"}), "'vcpu' should be"),
        (answers({"vcpu": 0, "answer": "Accepted"}), "'answer' should be"),
        (answers({"vcpu": 0, "answer": "EINVAL\n"}), "'answer' should be"),
        (answers({"vcpu": 0, "answer": None}), "'answer' should be"),
        (edit_facts(lines=[2]), "'lines' should be"),
        (edit_facts(lines=[2, 2, 2]), "'lines' should be"),
        (edit_facts(lines=[2, -1]), "'lines' should be"),
        (edit_facts(lines=[2, None]), "'lines' should be"),
        (edit_facts(lines=[True, False]), "'lines' should be"),
        (edit_facts(lines=2), "'lines' should be a list"),
        (edit_facts(model="new"), "'model' should be"),
        (edit_facts(model=[]), "'model' should be"),
        (edit_facts(guest="dead"), "'guest' has an unknown value"),
        (edit_facts(guest=None), "'guest' has an unknown value"),
        (edit_facts(ended=None), "'ended' should be a string"),
        (edit_facts(ended="\udfff"), "'ended' is no text"),
        (edit_facts(notes=["missed fault"]), "'notes' has an unknown value"),
        (edit_facts(notes=[{}]), "'notes' has an unknown value"),
        (edit_facts(notes="fault"), "'notes' should be a list"),
        (edit_facts(touched="dr7"), "'touched' should be a list"),
        (edit_facts(touched=[{}]), "each of 'touched' should have"),
        (edit_facts(touched=["dr7"]), "each of 'touched' should have"),
        (edit_touched(vcpu=None), "'touched' has a value of another type"),
        (edit_touched(answer="Refused"), "'answer' should be"),
        (edit_touched(change=1), "'touched' has a value of another type"),
        (edit_touched(differences=[1]), "each of 'touched' should have"),
        (edit_touched(differences=[{"vcpu": 0, "part": 1, "field": "", "old": "", "new": ""}]), "of another type"),
    ],
)
def test_a_bad_cell_is_a_usage_error_of_one_line(
    tmp_path: Path, edit: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    data = written(tmp_path)
    edit(data["cells"][0])
    (tmp_path / "matrix.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=complaint) as raised:
        read(tmp_path / "matrix.json")
    assert f"{tmp_path / 'matrix.json'}: cell 1" in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no JSON"),
        ("\xff", "is no JSON"),
        ("[]", "is no matrix.json"),
        ('{"schema": 2}', "is no matrix.json"),
        ('{"schema": 2, "cells": {}}', "is no matrix.json"),
        ('{"schema": 3, "cells": []}', "has schema 3; this version reads schema 1 and 2"),
        ('{"schema": true, "cells": []}', "has schema True"),
        ('{"schema": [], "cells": []}', r"has schema \[\]"),
        ('{"schema": 2, "cells": [7]}', "cell 1 should have just these keys"),
        ('{"schema": 1, "cells": [{"case": "x"}]}', "cell 1 should have just these keys"),
    ],
)
def test_a_bad_file_is_a_usage_error(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "matrix.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=complaint):
        read(path)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "matrix.json")
