"""The gist of facts: two cells have the same gist just where their words are the same."""

from cells import facts
from cpuidlab.experiment.facts import Answer, Facts, GuestState
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.words import in_words
from cpuidlab.report.gist import gist
from hypothesis import given
from hypothesis import strategies as st
from observations import touch

FACTS = st.builds(
    Facts,
    answers=st.lists(
        st.builds(Answer, st.sampled_from([None, 0, 1]), st.sampled_from(["accepted", "EINVAL", "E2BIG"])), max_size=3
    ).map(tuple),
    lines=st.sampled_from([None, (0, 0), (1, 1), (0, 2)]),
    model=st.sampled_from([None, "asked", "before", "other"]),
    guest=st.sampled_from(GuestState),
    ended=st.sampled_from(["", "triple fault"]),
    touched=st.sampled_from([(), (touch(0, "dr7"),), (touch(0, "dr7", answer="accepted"),)]),
    notes=st.lists(st.sampled_from(Note), max_size=2).map(tuple),
)


@given(FACTS, FACTS)
def test_the_gist_differs_where_the_words_differ(one: Facts, other: Facts) -> None:
    assert (gist(one) == gist(other)) == (in_words(one) == in_words(other))


def test_nothing_observed_has_no_gist() -> None:
    assert gist(None) is None
    assert gist(facts(guest=GuestState.UNSEEN)) is not None
