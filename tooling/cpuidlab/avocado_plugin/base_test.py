"""The base of every test in tests/: one promise, told on the host and in the paging mode of its variant."""

import faulthandler
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from avocado import Test

from cpuidlab.avocado_plugin import cell_file
from cpuidlab.base import die_with_parent
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.experiment.ask_kernel import probe
from cpuidlab.experiment.experiment import Story, UnseenError
from cpuidlab.experiment.observation import Observation, to_json
from cpuidlab.judge.eras import Era
from cpuidlab.judge.expectations import Promise
from cpuidlab.judge.prediction import Prediction, predicted
from cpuidlab.judge.verdict import Judgement, Verdict, judge, probe_era
from cpuidlab.report.matrix import Cell
from cpuidlab.rig.host_config import Setup, setup
from cpuidlab.rig.rig import Stage
from cpuidlab.rig.snapshots import open_rig

THAWED_SECONDS = 120.0
COLD_SECONDS = 240.0


class PromiseTest(Test):  # type: ignore[misc]  # avocado has no types
    """A test tells one story and concludes from it, once. Its docstring is the promise, and by which commit."""

    timeout = 300  # Avocado's own, in seconds; each test's deadline comes long before
    route = "hook"

    def setUp(self) -> None:
        """Take the variant; end with the job."""
        if "CPUIDLAB_JOB_PID" in os.environ:
            die_with_parent.die_with(int(os.environ["CPUIDLAB_JOB_PID"]))
        self.host = self.params.get("host", default="5.10")
        self.paging = self.params.get("paging", default="npt")
        self.cold = self.params.get("cold", default=False)
        self.era_override = self.params.get("era", default="")
        self.eras = self.params.get("eras", default="")
        self.folder = Path(self.outputdir)
        # whatever hangs in spite of its deadline shows where, before Avocado ends it
        self._stacks = (self.folder / "stacks.txt").open("w")
        faulthandler.dump_traceback_later(self.timeout - 30, file=self._stacks)
        self.judgement: Judgement | None = None
        self.observation: Observation | None = None

    @contextmanager
    def story(self, stage: Stage = Stage.GUEST_READY, profile: str = "small") -> Iterator[Story]:
        """A story on a fresh rig at that stage. At its end the cell, the evidence and the verdict are written."""
        self.setup: Setup | None = None
        try:
            self.setup = setup(self.host, self.paging)
            if self.setup.kernel.digest != self.params.get("kernel", default=self.setup.kernel.digest):
                raise LabError(f"the kernel of {self.host} was built anew while the job ran; run it again")
            deadline = Deadline.after(COLD_SECONDS if self.cold else THAWED_SECONDS)
            with open_rig(self.setup, stage, profile, deadline, self.cold) as rig:
                story = Story(rig)
                try:
                    yield story
                except UsageError as error:  # what this CPU model or this machine lacks
                    self.judgement = Judgement(Verdict.SKIP, str(error))
                except LabError:
                    story.look_last()
                    raise
                finally:
                    self._save(story.evidence() | {"host-console.txt": rig.machine.console()})
            if self.judgement is None:
                raise LabError("this test ended without a conclusion: mend the test")
        except (LabError, UsageError) as error:  # before the job began the user's words were good
            self._save({"lab-failure.txt": f"{error}\n\n{getattr(error, 'evidence', '')}\n"})
            self.judgement = Judgement(Verdict.ERROR, f"{error}; rerun: {self.rerun}")
        self._publish(self.judgement)

    def conclude(self, story: Story, promise: Promise) -> None:
        """Observe, and judge what was seen by what the predicted era promises.

        A promise that is broken is told even where nobody could look at the guest; nothing else is said of such a one.
        """
        assert self.setup is not None  # noqa: S101  a story has one
        text = " ".join((getattr(self, self._testMethodName).__doc__ or "").split())
        unseen = None
        try:
            self.observation = story.observe()
        except UnseenError as error:
            unseen, self.observation = error, error.seen
        try:
            found = judge(promise, self.predicted, self._probed(), self.observation, promise=text, rerun=self.rerun)
        except LabError as error:
            raise unseen or error from error
        if unseen and found.verdict is not Verdict.FAIL:
            raise unseen
        self.judgement = found
        if told := self._prediction.told(self.setup.kernel.label):
            self.judgement = replace(self.judgement, reason=f"{self.judgement.reason}\n{told}")

    @property
    def predicted(self) -> Era:
        """The era by which this host is judged."""
        return self._prediction.era

    @property
    def _prediction(self) -> Prediction:
        assert self.setup is not None  # noqa: S101  a story has one
        return predicted(self.setup.kernel, self.era_override, self.eras)

    @property
    def rerun(self) -> str:
        """The command that runs just this test on just this host."""
        file = Path(self.filename)
        name = f"{file.parent.name}/{file.name}:{type(self).__name__}.{self._testMethodName}"
        words = [".venv/bin/avocado", "run", name, "--hosts", self.host, "--paging", self.paging]
        words += ["--era", self.era_override] if self.era_override else []
        words += ["--eras", self.eras] if self.eras else []
        words += ["--cold"] if self.cold else []
        return shlex.join(words)

    def _probed(self) -> Era | None:
        assert self.setup is not None  # noqa: S101
        return None if self.cold else probe_era(probe(self.setup), self.predicted)

    def _save(self, files: dict[str, str]) -> None:
        for name, text in {**files, "rerun.txt": f"{self.rerun}\n"}.items():
            (self.folder / name).write_text(text)

    def _publish(self, judgement: Judgement) -> None:
        if self.observation:
            (self.folder / "observation.json").write_text(to_json(self.observation))
        probed = self._probed() if self.setup and judgement.verdict not in (Verdict.ERROR, Verdict.SKIP) else None
        cell = Cell(
            case=f"{Path(self.filename).stem.removeprefix('test_')}/{self._testMethodName.removeprefix('test_')}",
            host=self.setup.kernel.label if self.setup else self.host,
            release=self.setup.kernel.release if self.setup else "",
            paging=self.paging,
            route=self.route,
            accel=self.setup.accel if self.setup else "",
            predicted=self.predicted.name if self.setup else "",
            probed=probed.name if probed else "",
            observed=self.observation.word if self.observation else "",
            verdict=judgement.verdict,
            reason=judgement.reason,
            evidence="",
        )
        cell_file.write_cell(cell, self.folder)
        say = {
            Verdict.FAIL: self.fail,
            Verdict.ERROR: self.error,
            Verdict.SKIP: self.cancel,
            Verdict.WARN: self.log.warning,
        }
        say.get(judgement.verdict, self.log.info)(judgement.reason)
