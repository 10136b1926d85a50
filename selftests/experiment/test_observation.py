import json
from dataclasses import replace

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.experiment.observation import Fate, GuestReport, Observation, VcpuAnswer, from_json, to_json, which_model
from cpuidlab.kvm.kmsg import Record
from cpuidlab.kvm.warning import WARNING_LINES
from hypothesis import given
from hypothesis import strategies as st
from observations import DEAD, REFUSED, SICK, SILENT, WARNED, seen


@pytest.mark.parametrize(
    ("observation", "word"),
    [
        (seen(model=None), "stable"),
        (seen(model=None, guest=SICK), "guest unstable"),
        (seen(model=None, guest=None), "nothing changed"),
        (seen(model=None, guest=None, fate=DEAD), "guest died"),
        (seen(model=None, texts=WARNING_LINES), "warned"),
        (SILENT, "silent"),
        (WARNED, "warned"),
        (REFUSED, "refused EINVAL"),
        (seen("accepted", guest=None, fate=DEAD), "silent, guest died"),
        (seen("accepted", texts=WARNING_LINES, guest=None, fate=DEAD), "warned, guest died"),
        (seen("EINVAL", model="other"), "refused EINVAL, wrong model"),
        (seen("EINVAL", texts=WARNING_LINES), "refused EINVAL, warned"),
        (seen("accepted", "EINVAL", guest=SICK), "1 of 2 accepted, refused EINVAL, guest unstable"),
        (seen("accepted", texts=WARNING_LINES, level=6), "silent"),
    ],
)
def test_words(observation: Observation, word: str) -> None:
    assert observation.word == word


@pytest.mark.parametrize(
    ("observation", "word"),
    [
        (seen("accepted"), "silent, missed fault, fault"),
        (seen(model=None), "missed fault, fault, stable"),
        (seen(model=None, guest=None), "missed fault, fault"),
        (seen("EINVAL", model="other", guest=SICK), "refused EINVAL, wrong model, missed fault, fault, guest unstable"),
        (seen("accepted", guest=None, fate=DEAD), "silent, missed fault, fault, guest died"),
    ],
)
def test_notes_stand_between_the_answer_and_the_guest(observation: Observation, word: str) -> None:
    noted = replace(observation, notes=("missed fault", "fault"))
    assert noted.word == word
    assert from_json(to_json(noted)) == noted
    assert json.loads(to_json(noted))["word"] == word


RECORDS = st.builds(Record, st.integers(0, 7), st.just(0), st.integers(0), st.floats(0, 9), st.text())
OBSERVATIONS = st.builds(
    Observation,
    answers=st.lists(st.builds(VcpuAnswer, st.integers(0, 8), st.sampled_from(["accepted", "EINVAL"]))).map(tuple),
    model=st.sampled_from(["asked", "before", "other", None]),
    host_log=st.lists(RECORDS).map(tuple),
    guest=st.none() | st.builds(GuestReport, st.booleans(), st.lists(st.text()).map(tuple)),
    fate=st.builds(Fate, st.booleans(), st.none() | st.text(), st.none() | st.floats(0, 9), st.none() | st.integers()),
    notes=st.lists(st.text()).map(tuple),
)


@given(OBSERVATIONS)
def test_observations_survive_json(observation: Observation) -> None:
    assert from_json(to_json(observation)) == observation


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
