"""The base of every test in tests/, and the decorator by which a test states its promise: what Avocado sees of them."""

import faulthandler
import os
from collections.abc import Callable
from dataclasses import fields
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

from avocado import Test

from cpuidlab.avocado_plugin.promise_run import PromiseRun
from cpuidlab.avocado_plugin.under_test import CaseName, PromiseUnderTest, RunVariant
from cpuidlab.base import die_with_parent
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.guest import Guest
from cpuidlab.judge.expectations import Promise
from cpuidlab.judge.verdict import Judgement, Verdict
from cpuidlab.rig.rig import Stage


class PromiseTest(Test):  # type: ignore[misc]  # avocado has no types
    """A class of tests that each state one promise by `promise`. The docstring of a test is the promise in words, with
    the commit."""

    timeout = 900  # Avocado's own, in seconds; each test's deadline comes long before
    route = "hook"

    def setUp(self) -> None:
        """End with the job, and show where a test hangs in spite of its deadline, before Avocado ends it."""
        if "CPUIDLAB_JOB_PID" in os.environ:
            die_with_parent.die_with(int(os.environ["CPUIDLAB_JOB_PID"]))
            # Avocado stops a test before it ends it. If the job is killed meanwhile, only the kernel can end the test.
            die_with_parent.end_with_parent(os.getppid())
        self._stacks = (Path(self.outputdir) / "stacks.txt").open("w")
        faulthandler.dump_traceback_later(self.timeout - 30, file=self._stacks)

    def keeps(self, stated: PromiseUnderTest, story: Callable[[Any], None]) -> None:
        """Run the story, publish whether the promise is kept, and tell Avocado."""
        run = PromiseRun(self._name(), stated, self._variant(), Path(self.outputdir))
        self._tell_avocado(run.run(story))

    def _variant(self) -> RunVariant:
        values = {field.name: self.params.get(field.name, default=field.default) for field in fields(RunVariant)}
        return RunVariant(**values)

    def _name(self) -> CaseName:
        text = " ".join((getattr(self, self._testMethodName).__doc__ or "").split())
        return CaseName(Path(self.filename), type(self).__name__, self._testMethodName, self.route, text)

    def _tell_avocado(self, judgement: Judgement) -> None:
        """Avocado takes all but a PASS from an exception."""
        tell = {
            Verdict.FAIL: self.fail,
            Verdict.ERROR: self.error,
            Verdict.SKIP: self.cancel,
            Verdict.WARN: self.log.warning,
        }
        tell.get(judgement.verdict, self.log.info)(judgement.reason)


T = TypeVar("T", bound=PromiseTest)
S = TypeVar("S", Guest, BareVm)  # what the test acts on


def promise(
    kept: Promise,
    *,
    npt: Promise | None = None,
    calls: int | None = None,
    stage: Stage = Stage.GUEST_READY,
    profile: str = "small",
) -> Callable[[Callable[[T, S], None]], Callable[[T], None]]:
    """State what a test promises and needs; the fields are explained at `PromiseUnderTest`."""
    stated = PromiseUnderTest(kept, npt, calls, stage, profile)

    def decorate(story: Callable[[T, S], None]) -> Callable[[T], None]:
        @wraps(story)
        def test(self: T) -> None:
            self.keeps(stated, partial(story, self))

        return test

    return decorate
