"""Witnesses that agree, and witnesses that contradict each other."""

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.experiment.observation import Fate, Observation
from cpuidlab.experiment.witnesses import agree
from cpuidlab.kvm.warning import WARNING_LINES
from observations import DEAD, SILENT, seen


def test_witnesses_that_agree() -> None:
    agree(SILENT, [(1, "accepted"), (0, "accepted")])
    agree(seen("accepted", guest=None, fate=DEAD), [(0, "accepted")])
    agree(seen(model=None), [])
    agree(seen(model=None, texts=WARNING_LINES), [], swept=True)


@pytest.mark.parametrize(
    ("observation", "hook", "words"),
    [
        (SILENT, [(0, "accepted")], "the caller got accepted on vCPU 0, accepted on vCPU 1, the hook's log has"),
        (SILENT, [(0, "accepted"), (1, "EINVAL")], "EINVAL on vCPU 1"),
        (seen(model=None, texts=WARNING_LINES), [], "the hook never saw"),
        (seen("accepted", fate=DEAD), [(0, "accepted")], "said to be stable, and QEMU to be gone"),
        (seen("accepted", fate=Fate(True, exit_code=1)), [(0, "accepted")], "have exited with 1"),
        (seen("accepted", guest=None, fate=Fate(False)), [(0, "accepted")], "nobody can say how it ended"),
    ],
)
def test_witnesses_that_contradict(observation: Observation, hook: list[tuple[int, str]], words: str) -> None:
    with pytest.raises(LabError, match="contradict each other") as caught:
        agree(observation, hook)
    assert words in str(caught.value)
