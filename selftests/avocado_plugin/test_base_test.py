"""What Avocado sees of a test: its docstring, its parameters, and how its verdict is told."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from avocado.core import exceptions
from cpuidlab.avocado_plugin import base_test
from cpuidlab.avocado_plugin.base_test import PromiseTest, promise
from cpuidlab.avocado_plugin.under_test import CaseName, PromiseUnderTest, RunVariant
from cpuidlab.judge.expectations import changed
from cpuidlab.judge.verdict import Judgement, Verdict


class Params:
    """A variant's parameters, as Avocado gives them to a test."""

    def get(self, name: str, default: object) -> object:
        return {"host": "6.1", "cold": True, "era": "warn", "kernel": "d1"}.get(name, default)


class Example(PromiseTest):
    """Stands for the tests; Avocado's own part is left out."""

    __test__ = False
    params = Params()
    log = logging.getLogger("example")
    filename, outputdir = "/lab/tests/test_example.py", "/evidence"
    route = "replug"

    def __init__(self) -> None:
        self.seen: list[object] = []
        self._testMethodName = "test_it"

    def __del__(self) -> None:
        """Nothing of Avocado's is there to be removed."""

    @promise(changed, calls=2, profile="highmem")
    def test_it(self, guest: object) -> None:
        """A promise
        in two lines."""
        self.seen.append(guest)


@pytest.fixture
def judgement(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the run of a test comes to, and what it was given."""
    run: dict[str, Any] = {"judgement": Judgement(Verdict.PASS, "as promised")}

    class FakeRun:
        def __init__(self, *words: object) -> None:
            run["words"] = words

        def run(self, story: Any) -> Judgement:
            story("the guest")
            found: Judgement = run["judgement"]
            return found

    monkeypatch.setattr(base_test, "PromiseRun", FakeRun)
    return run


def test_a_test_tells_its_name_its_promise_and_its_variant(judgement: dict[str, Any]) -> None:
    example = Example()
    example.test_it()
    assert example.seen == ["the guest"]
    name = CaseName(Path("/lab/tests/test_example.py"), "Example", "test_it", "replug", "A promise in two lines.")
    variant = RunVariant(host="6.1", cold=True, era="warn", kernel="d1")
    assert judgement["words"] == (
        name,
        PromiseUnderTest(changed, calls=2, profile="highmem"),
        variant,
        Path("/evidence"),
    )


def test_a_test_ends_with_its_job_and_with_its_runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bound: list[tuple[str, int]] = []
    monkeypatch.setattr(base_test.die_with_parent, "die_with", lambda pid: bound.append(("job", pid)))
    monkeypatch.setattr(base_test.die_with_parent, "end_with_parent", lambda pid: bound.append(("runner", pid)))
    monkeypatch.setattr(base_test.faulthandler, "dump_traceback_later", lambda *_, **__: None)
    monkeypatch.setenv("CPUIDLAB_JOB_PID", "77")
    example = Example()
    monkeypatch.setattr(example, "outputdir", str(tmp_path))
    example.setUp()
    assert bound == [("job", 77), ("runner", os.getppid())]


@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        (Verdict.FAIL, exceptions.TestFail),
        (Verdict.ERROR, exceptions.TestError),
        (Verdict.SKIP, exceptions.TestCancel),
    ],
)
def test_a_verdict_that_avocado_takes_from_an_exception(
    judgement: dict[str, Any], verdict: Verdict, error: type[Exception]
) -> None:
    judgement["judgement"] = Judgement(verdict, "the reason")
    with pytest.raises(error, match="the reason"):
        Example().test_it()


@pytest.mark.parametrize(
    ("verdict", "level"),
    [(Verdict.PASS, logging.INFO), (Verdict.KNOWN, logging.INFO), (Verdict.WARN, logging.WARNING)],
)
def test_a_verdict_with_which_a_test_ends_well(
    judgement: dict[str, Any], verdict: Verdict, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    judgement["judgement"] = Judgement(verdict, "the reason")
    with caplog.at_level(logging.INFO):
        Example().test_it()
    assert [(record.levelno, record.message) for record in caplog.records] == [(level, "the reason")]
