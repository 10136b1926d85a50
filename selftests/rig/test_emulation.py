"""What a paging mode needs of QEMU's emulation, and what becomes of a mode that it cannot do."""

from collections.abc import Iterator

import pytest
from cpuidlab.base.errors import LabError, UnsupportedError
from cpuidlab.rig import emulation, host_config
from cpuidlab.rig.emulation import READ_MISSED, READ_SEEN, lack


@pytest.fixture(autouse=True)
def _untried() -> Iterator[None]:
    lack.cache_clear()
    yield
    lack.cache_clear()


def answers(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(emulation, "_try_cr3_intercept", lambda: code)


def test_shadow_paging_needs_the_intercept_of_reads_of_cr3(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, READ_SEEN)
    assert lack("shadow") == ""
    lack.cache_clear()
    answers(monkeypatch, READ_MISSED)
    assert "does not intercept the guest's reads of CR3" in lack("shadow")


def test_nested_paging_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, READ_MISSED)
    assert lack("npt") == ""


@pytest.mark.parametrize("code", [0, 1, 2 * ord("?") + 1, -9])
def test_another_end_of_the_trial_is_no_answer(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    answers(monkeypatch, code)
    with pytest.raises(LabError, match=f"ended with exit code {code}"):
        lack("shadow")


def test_no_host_is_made_for_what_the_machine_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, READ_MISSED)
    host_config.setup.cache_clear()
    with pytest.raises(UnsupportedError, match="ask for --paging npt"):
        host_config.setup("6.1", "shadow")
