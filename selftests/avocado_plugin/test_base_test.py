"""What becomes of a test whose rig, story or guest is not as it should be."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from cpuidlab.avocado_plugin import base_test
from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.experiment.experiment import UnseenError
from cpuidlab.judge.verdict import Judgement, Verdict

FAIL, PASS = Judgement(Verdict.FAIL, "it was refused"), Judgement(Verdict.PASS, "as promised")

UNSEEN = UnseenError(LabError("no login"), None)


class EndedError(Exception):
    """Avocado's own exceptions, with which it takes a verdict."""


def publish(judgement: Judgement) -> None:
    raise EndedError(judgement)


@pytest.fixture
def test(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands for a PromiseTest in the midst of a job."""

    @contextmanager
    def open_rig(*_: object) -> Iterator[Any]:
        yield SimpleNamespace(machine=SimpleNamespace(console=str))

    monkeypatch.setattr(base_test, "setup", lambda *_: SimpleNamespace(kernel=SimpleNamespace(digest="", label="5.10")))
    monkeypatch.setattr(base_test, "open_rig", open_rig)
    told = SimpleNamespace(evidence=dict, observe=failing(UNSEEN), look_last=lambda: None)
    monkeypatch.setattr(base_test, "Story", lambda rig: told)
    return SimpleNamespace(
        host="5.10", paging="npt", cold=False, params=SimpleNamespace(get=lambda _, default: default),
        rerun="again", judgement=None, predicted=None, _prediction=SimpleNamespace(told=lambda _: ""),
        _testMethodName="name", name=None, _probed=lambda: None, _save=lambda _: None, _publish=publish,
    )  # fmt: skip


@contextmanager
def story(test: Any, verdict: Verdict, reason: str) -> Iterator[Any]:
    """The test's story, which must end with that."""
    with pytest.raises(EndedError) as ended, PromiseTest.story(test) as told:
        yield told
    assert ended.value.args == (Judgement(verdict, reason),)


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("what", ["setup", "open_rig"])
@pytest.mark.parametrize("error", [UsageError("the patch does not apply"), LabError("no boot")])
def test_a_rig_that_cannot_be_made_in_the_midst_of_a_job_is_an_error(
    test: Any, monkeypatch: pytest.MonkeyPatch, what: str, error: Exception
) -> None:
    monkeypatch.setattr(base_test, what, failing(error))
    with pytest.raises(EndedError) as ended, PromiseTest.story(test):
        pass
    assert ended.value.args == (Judgement(Verdict.ERROR, f"{error}; rerun: again"),)


def test_what_the_cpu_lacks_is_a_skip(test: Any) -> None:
    with story(test, Verdict.SKIP, "this CPU model has no la57"):
        raise UsageError("this CPU model has no la57")


def test_a_test_without_a_conclusion_is_an_error(test: Any) -> None:
    with story(test, Verdict.ERROR, "this test ended without a conclusion: mend the test; rerun: again"):
        pass


@pytest.mark.parametrize(
    ("found", "wanted"),
    [(PASS, Judgement(Verdict.ERROR, "no login; rerun: again")), (FAIL, FAIL)],
)
def test_a_guest_that_nobody_saw_hides_no_broken_promise_and_keeps_none(
    test: Any, monkeypatch: pytest.MonkeyPatch, found: Judgement, wanted: Judgement
) -> None:
    monkeypatch.setattr(base_test, "judge", lambda *_, **__: found)
    with story(test, wanted.verdict, wanted.reason) as told:
        PromiseTest.conclude(test, told, lambda _: None)  # type: ignore[arg-type, return-value]


def test_why_nobody_saw_the_guest_is_what_is_told(test: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_test, "judge", failing(LabError("nobody looked at the guest's health")))
    with story(test, Verdict.ERROR, "no login; rerun: again") as told:
        PromiseTest.conclude(test, told, lambda _: None)  # type: ignore[arg-type, return-value]


def test_where_the_lab_fails_the_evidence_is_of_that_moment(test: Any) -> None:
    saved: dict[str, str] = {}
    test._save = saved.update
    with story(test, Verdict.ERROR, "a program did not end in time; rerun: again") as told:
        told.look_last = lambda: setattr(told, "evidence", lambda: {"hook-log.txt": "as it is now"})
        raise LabError("a program did not end in time")
    assert saved["hook-log.txt"] == "as it is now"
