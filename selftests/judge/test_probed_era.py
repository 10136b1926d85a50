"""Which era a kernel shows when it is asked directly."""

import pytest
from cpuidlab.experiment.observation import Probe
from cpuidlab.judge.eras import era
from cpuidlab.judge.probed_era import candidates, probed_era

FORBID = ["false-acceptance", "false-refusal", "forbid-changed", "forbid-changed-l2"]


@pytest.mark.parametrize(
    ("probe", "names"),
    [
        (Probe("accepted", "accepted", 0, 0), ["silent"]),
        (Probe("accepted", "accepted", 2, 2), ["warn"]),
        (Probe("EINVAL", "EINVAL", 0, 0), ["forbid-all", "false-refusal"]),
        (Probe("accepted", "EINVAL", 0, 0), FORBID),
        (Probe("accepted", "accepted", 1, 2), []),
        (Probe("accepted", "accepted", 0, 2), []),
        (Probe("accepted", "EINVAL", 0, 2), []),
        (Probe("EINVAL", "accepted", 0, 0), []),
        (Probe("EPERM", "EPERM", 0, 0), []),
    ],
)
def test_probes(probe: Probe, names: list[str]) -> None:
    assert [one.name for one in candidates(probe)] == names


def test_the_predicted_era_wins_if_it_fits() -> None:
    probe = Probe("accepted", "EINVAL", 0, 0)
    for name in FORBID:
        assert probed_era(probe, era(name)) == era(name)
    assert probed_era(probe, era("warn")) == era("forbid-changed")
    assert probed_era(Probe("EINVAL", "EINVAL", 0, 0), era("warn")) == era("forbid-all")
    assert probed_era(Probe("EPERM", "EPERM", 0, 0), era("warn")) is None
