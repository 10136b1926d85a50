import json
from dataclasses import replace

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import (
    Fate,
    GuestReport,
    Observation,
    Unseen,
    VcpuAnswer,
    from_json,
    to_json,
    which_model,
)
from cpuidlab.kvm.kmsg import Record
from hypothesis import given
from hypothesis import strategies as st
from observations import SILENT, seen

RECORDS = st.builds(Record, st.integers(0, 7), st.just(0), st.integers(0), st.floats(0, 9), st.text())
OBSERVATIONS = st.builds(
    Observation,
    answers=st.lists(st.builds(VcpuAnswer, st.integers(0, 8), st.sampled_from(["accepted", "EINVAL"]))).map(tuple),
    model=st.sampled_from(["asked", "before", "other", None]),
    host_log=st.lists(RECORDS).map(tuple),
    guest=st.none() | st.builds(GuestReport, st.booleans(), st.lists(st.text()).map(tuple)),
    fate=st.builds(Fate, st.booleans(), st.none() | st.text(), st.none() | st.floats(0, 9), st.none() | st.integers()),
    notes=st.lists(st.sampled_from(Note)).map(tuple),
    sweep_calls=st.integers(0),
    unseen=st.none() | st.builds(Unseen, st.text(), st.text()),
    figures=st.lists(st.text()).map(tuple),
)


@given(OBSERVATIONS)
def test_observations_survive_json(observation: Observation) -> None:
    assert from_json(to_json(observation)) == observation


def test_what_is_told_of_older_tests_is_read() -> None:
    """Before there were sweeps, unseen guests and figures in it."""
    old = json.loads(to_json(SILENT))
    del old["sweep_calls"], old["unseen"], old["figures"]
    assert from_json(json.dumps(old)) == SILENT


def test_accepted_calls_are_those_of_the_test_and_of_sweeps() -> None:
    assert seen("accepted", "EINVAL", "accepted").accepted_calls == 2
    assert replace(seen(), sweep_calls=9).accepted_calls == 9


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", to_json(SILENT).replace('"asked"', '"mine"')])
def test_what_is_no_observation(text: str) -> None:
    with pytest.raises(UsageError, match=r"not an observation\.json"):
        from_json(text)


def test_which_model() -> None:
    asked, before = "new model", "old model"
    assert which_model(asked, asked, before) == "asked"
    assert which_model(before, asked, before) == "before"
    assert which_model("mixture", asked, before) == "other"
    assert which_model(before, before, before) == "asked"
