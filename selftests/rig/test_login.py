"""Logging in again and again, and what is told where that fails."""

from typing import Any

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig import login, ssh


def attempt(monkeypatch: pytest.MonkeyPatch, *errors: Exception, seconds: float = 10) -> list[Any]:
    """Log in where each attempt but the last meets an error; return the words of each."""
    attempts: list[Any] = []

    class Ssh:
        def __init__(self, *words: Any) -> None:
            attempts.append(words)
            if len(attempts) <= len(errors):
                raise errors[len(attempts) - 1]

    monkeypatch.setattr(ssh, "Ssh", Ssh)
    keys: Any = "keys"
    streams: Any = iter(range(10**6))
    patience = Deadline.after(seconds)
    login.log_in("guest", "6.1-npt", lambda: next(streams), keys, patience=patience, watch=lambda: None)
    return attempts


def test_each_attempt_has_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = attempt(monkeypatch, LabError("not yet"), ConnectionRefusedError("not yet"))
    assert [words[:3] for words in attempts] == [("guest 6.1-npt", number, "keys") for number in range(3)]
    assert all(words[3].left() <= login.SSH_TRY_SECONDS for words in attempts)


def test_a_lost_machine_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LostVMError, match="gone"):
        attempt(monkeypatch, LostVMError("gone"))


def test_the_last_attempt_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match=r"in vain for SSH to the guest on 6.1-npt; the last attempt: shows another key"):
        attempt(monkeypatch, *[LabError("shows another key")] * 99, seconds=0.05)
