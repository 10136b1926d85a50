"""One promise on one host, from the set-up to the published verdict. Avocado is not needed for any of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpuidlab.avocado_plugin import cell_file, rig_file
from cpuidlab.avocado_plugin.under_test import CaseName, PromiseUnderTest, RunVariant
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UnsupportedError, UsageError
from cpuidlab.experiment import evidence
from cpuidlab.experiment.ask_kernel import probe
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.facts import Facts, facts_of
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.observation import Observation, Probe, to_json
from cpuidlab.experiment.observe import Look, look_last
from cpuidlab.judge.eras import Era
from cpuidlab.judge.prediction import Prediction
from cpuidlab.judge.probed_era import probed_era
from cpuidlab.judge.unknown import judge_unknown, suspects_of
from cpuidlab.judge.verdict import Judgement, Verdict, judge
from cpuidlab.report.cell import Cell
from cpuidlab.rig.host_config import setup
from cpuidlab.rig.host_machine import HostSetup
from cpuidlab.rig.real_setup import may_reload
from cpuidlab.rig.rig import Rig, Stage
from cpuidlab.rig.snapshots import open_rig

RESTORED_SECONDS = 120.0
COLD_SECONDS = 240.0


class LackError(Exception):
    """This CPU model or this machine lacks what a test needs."""


def _probed(place: HostSetup) -> Probe | None:
    """Ask the kernel by a running guest; None where no Linux guest boots on the machine."""
    try:
        return probe(place)
    except UnsupportedError:
        return None


class PromiseRun:
    """One run of one test. What is not known when a run breaks off is None."""

    def __init__(self, test: CaseName, stated: PromiseUnderTest, variant: RunVariant, folder: Path) -> None:
        """`folder` is that of the test's evidence."""
        self._test = test
        self._stated = stated
        self._variant = variant
        self._folder = folder
        self._rerun = test.command(variant)
        self._setup: HostSetup | None = None
        self._prediction: Prediction | None = None
        self._probed: Era | None = None
        self._observation: Observation | None = None

    def run(self, story: Callable[[Any], None]) -> Judgement:
        """Set up, let the test do what it does, judge what was seen, and publish the verdict."""
        judgement = self._judgement(story)
        if judgement.verdict is Verdict.ERROR:
            self._save({"lab-failure.txt": f"{judgement.reason}\n\n{judgement.evidence}\n"})
            judgement = replace(judgement, reason=f"{judgement.reason}; rerun: {self._rerun}")
        self._publish(judgement)
        return judgement

    def _judgement(self, story: Callable[[Any], None]) -> Judgement:
        try:
            place, prediction = self._set_up()
            self._observation = self._observe(place, story)
            return self._judge(place, prediction, self._observation)
        except (LackError, UnsupportedError) as error:
            return Judgement(Verdict.SKIP, str(error))
        except LabError as error:
            return Judgement(Verdict.ERROR, str(error), error.evidence)
        except UsageError as error:  # the user's words were good before the job began
            return Judgement(Verdict.ERROR, str(error))

    def _set_up(self) -> tuple[HostSetup, Prediction]:
        asked = self._variant
        place = may_reload(setup(asked.host, asked.paging, asked.accel), asked.reload_kvm)
        self._setup = place
        if self._variant.kernel and self._variant.kernel != place.kernel.digest:
            raise LabError(f"the kernel of {self._variant.host} was built anew while the job ran; run it again")
        self._prediction = self._variant.prediction(place)
        return place, self._prediction

    def _observe(self, place: HostSetup, story: Callable[[Any], None]) -> Observation:
        """Open a fresh rig for the story, and keep what is to be told of the rig however the story ends."""
        cold, stated = self._variant.cold, self._stated
        deadline = Deadline.after(COLD_SECONDS if cold or place.boots_guests else RESTORED_SECONDS, place.patience)
        rig: Rig | None = None
        try:
            with open_rig(place, stated.stage, stated.profile, deadline, cold) as rig:
                if stated.stage is Stage.HOST_READY:
                    return self._see_bare(BareVm(rig), story)
                return self._see(Guest(rig), story)
        finally:
            if rig is not None:
                self._save(rig_file.files_of(rig.facts()))

    def _see(self, guest: Guest, story: Callable[[Guest], None]) -> Observation:
        """Tell the story, look at everything, and keep the evidence. LackError where it cannot be told on this CPU."""
        look = Look(guest)
        try:
            story(guest)
            observation = look.observe()
            if observation.unseen:
                look_last(guest)
        except UsageError as error:
            raise LackError(str(error)) from error
        except LabError:
            look_last(guest)
            raise
        finally:
            self._save(evidence.files(guest, look) | {"host-console.txt": guest.rig.machine.console()})
        return observation

    def _see_bare(self, vm: BareVm, story: Callable[[BareVm], None]) -> Observation:
        """Do the same where there is no guest."""
        try:
            story(vm)
            return vm.observe()
        except UsageError as error:
            raise LackError(str(error)) from error
        finally:
            self._save(vm.files() | {"host-console.txt": vm.rig.machine.console()})

    def _judge(self, place: HostSetup, prediction: Prediction, observation: Observation) -> Judgement:
        can_probe = not (self._variant.cold or observation.log_refused)
        shown = _probed(place) if can_probe else None
        self._probed = probed_era(shown, prediction.era) if shown else None
        promise = self._stated.in_paging(self._variant.paging)
        words = {"promise": self._test.text, "rerun": self._rerun}
        if prediction.era is None:
            judgement = judge_unknown(promise, suspects_of(prediction.among, shown), observation, **words)
        else:
            judgement = judge(promise, prediction.era, self._probed, observation, **words)
        told = prediction.told(place.kernel.label)
        if told and judgement.verdict is not Verdict.ERROR:
            judgement = replace(judgement, reason=f"{judgement.reason}\n{told}")
        return judgement

    def _save(self, files: dict[str, str]) -> None:
        for name, text in {**files, "rerun.txt": f"{self._rerun}\n"}.items():
            (self._folder / name).write_text(text)

    def _publish(self, judgement: Judgement) -> None:
        if self._observation:
            (self._folder / "observation.json").write_text(to_json(self._observation))
        cell_file.write_cell(self._cell(judgement), self._folder)

    def _cell(self, judgement: Judgement) -> Cell:
        judged = judgement.verdict not in (Verdict.ERROR, Verdict.SKIP)
        return Cell(
            case=self._test.case,
            host=self._setup.column if self._setup else self._variant.host,
            release=self._setup.kernel.release if self._setup else "",
            paging=self._variant.paging,
            route=self._test.route,
            accel=self._setup.accel if self._setup else "",
            predicted=self._prediction.name if self._prediction else "",
            probed=self._probed.name if self._probed and judged else "",
            facts=self._facts(),
            verdict=judgement.verdict,
            reason=judgement.reason,
            evidence="",
            predicted_by=self._prediction.basis if self._prediction else "",
        )

    def _facts(self) -> Facts | None:
        """Return what was seen; None where a part of it could not be seen, for a cell would then say too much."""
        if self._observation is None or self._observation.log_refused:
            return None
        return facts_of(self._observation)
