"""From the set-up to the published verdict, on a rig without machines."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cpuidlab.avocado_plugin import promise_run
from cpuidlab.avocado_plugin.cell_file import read_cell
from cpuidlab.avocado_plugin.promise_run import PromiseRun
from cpuidlab.avocado_plugin.under_test import CaseName, PromiseUnderTest, RunVariant
from cpuidlab.base.errors import LabError, UnsupportedError, UsageError
from cpuidlab.experiment.bare_vm import BareVm
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.observation import Probe, from_json
from cpuidlab.judge.discrepancies import Expectation
from cpuidlab.judge.eras import era
from cpuidlab.judge.expectations import changed, no_fault, untouched
from cpuidlab.judge.verdict import Judgement, Verdict
from cpuidlab.kvm.warning import WARNING_LINES
from cpuidlab.report.cell import Cell, seen_in_words
from cpuidlab.rig.rig import Stage
from fakerig import FakeRig, opened

NAME = CaseName(Path("/lab/tests/test_after_run.py"), "AfterRun", "test_maxphyaddr_36", "hook", "MAXPHYADDR lowered")
RERUN = ".venv/bin/avocado run tests/test_after_run.py:AfterRun.test_maxphyaddr_36 --hosts 5.10 --paging npt"
EVIDENCE = {
    "host-log.txt", "guest-log.txt", "guest-console.txt", "qemu-stderr.txt", "readings.txt", "hook-log.txt", "qmp.txt",
    "models-before.txt", "models-after.txt", "models-diff.txt", "host-console.txt", "rerun.txt", "rig.json",
    "vcpu-state-diff.txt",
}  # fmt: skip


class Lab:
    """What a run finds: a rig, and a kernel that was predicted and probed to be of some era."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rig = FakeRig()
        self.version = "5.10.262-1"
        self.probe: Probe | Exception = Probe("accepted", "accepted", 0, 0)
        self.fails: dict[str, Exception] = {}
        self.opened_with: tuple[object, ...] = ()

    def setup(self, host: str, paging: str, accel: str) -> Any:
        if "setup" in self.fails:
            raise self.fails["setup"]
        kernel = SimpleNamespace(
            spec=host, label=host, digest="d1", release=self.version.partition("-")[0], version=self.version
        )
        column = host if accel == "tcg" else f"{host}-{accel}"
        return SimpleNamespace(
            kernel=kernel, column=column, paging=paging, accel=accel, boots_guests=False, patience=1.0
        )

    def open_rig(self, _: object, *words: object) -> AbstractContextManager[FakeRig]:
        if "open_rig" in self.fails:
            raise self.fails["open_rig"]
        self.opened_with = words
        return opened(self.rig)

    def ask(self, _: object) -> Probe:
        if isinstance(self.probe, Exception):
            raise self.probe
        return self.probe

    def run(self, story: Callable[[Any], object], stated: PromiseUnderTest | None = None, **variant: Any) -> Judgement:
        run = PromiseRun(NAME, stated or PromiseUnderTest(changed), RunVariant(**variant), self.folder)
        return run.run(story)

    @property
    def cell(self) -> Cell:
        cell = read_cell(self.folder)
        assert cell
        return cell

    def names(self) -> set[str]:
        return {file.name for file in self.folder.iterdir()}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab(tmp_path)
    monkeypatch.setattr(promise_run, "setup", lab.setup)
    monkeypatch.setattr(promise_run, "open_rig", lab.open_rig)
    monkeypatch.setattr(promise_run, "probe", lab.ask)
    return lab


def narrow(guest: Guest) -> None:
    guest.set_cpuid("maxphyaddr=36")


def test_a_kept_promise_is_published(lab: Lab) -> None:
    judgement = lab.run(narrow)
    assert judgement == Judgement(Verdict.PASS, "silent: MAXPHYADDR lowered")
    cell = lab.cell
    assert (cell.case, cell.host, cell.release, cell.paging) == ("after_run/maxphyaddr_36", "5.10", "5.10.262", "npt")
    assert (cell.route, cell.accel, cell.predicted, cell.probed) == ("hook", "tcg", "silent", "silent")
    assert cell.predicted_by == "upstream version"
    assert (seen_in_words(cell), cell.verdict, cell.reason) == ("silent", Verdict.PASS, "silent: MAXPHYADDR lowered")
    assert lab.names() == EVIDENCE | {"observation.json", "cell.json", "vcpu-state-before.txt", "vcpu-state-after.txt"}
    assert (lab.folder / "rerun.txt").read_text() == f"{RERUN}\n"
    assert len(from_json((lab.folder / "observation.json").read_text()).answers) == 2
    assert lab.opened_with[:2] == ("guest_ready", "small") and lab.opened_with[3] is False


def test_a_broken_promise_is_published(lab: Lab) -> None:
    lab.rig.hook.lines = WARNING_LINES
    judgement = lab.run(narrow)
    assert judgement.verdict is lab.cell.verdict is Verdict.FAIL
    assert judgement.reason.split("\n")[0].endswith(f": MAXPHYADDR lowered; rerun: {RERUN}")
    assert (seen_in_words(lab.cell), lab.cell.probed) == ("warned", "silent")


def test_a_backport_is_told_from_what_the_kernel_was_probed_to_be(lab: Lab) -> None:
    lab.rig.hook.errno = 22
    lab.probe = Probe("accepted", "EINVAL", 0, 0)
    assert lab.run(narrow).verdict is Verdict.WARN
    assert (lab.cell.predicted, lab.cell.probed) == ("silent", "forbid-changed")


def test_a_cold_run_probes_nothing_and_says_so_in_its_rerun(lab: Lab) -> None:
    lab.probe = LabError("nobody is to be asked")
    assert lab.run(narrow, cold=True).verdict is Verdict.PASS
    assert lab.cell.probed == ""
    assert (lab.folder / "rerun.txt").read_text() == f"{RERUN} --cold\n"
    assert lab.opened_with[3] is True


def test_a_table_of_suites_that_the_user_names_is_in_the_rerun(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPUIDLAB_KERNELS", "/home/me/kernels.toml")
    lab.run(narrow)
    assert (lab.folder / "rerun.txt").read_text() == f"{RERUN} --kernels /home/me/kernels.toml\n"


def test_where_no_guest_can_be_asked_the_prediction_decides(lab: Lab) -> None:
    lab.probe = UnsupportedError("no Linux guest boots there")
    assert lab.run(narrow).verdict is Verdict.PASS
    assert (lab.cell.predicted, lab.cell.probed) == ("silent", "")


def test_another_accelerator_is_handed_on_and_is_in_the_rerun(lab: Lab) -> None:
    lab.run(narrow, accel="kvm")
    assert (lab.cell.accel, lab.cell.host) == ("kvm", "5.10-kvm")
    assert (lab.folder / "rerun.txt").read_text() == f"{RERUN} --accel kvm\n"


def test_an_era_that_the_user_names_is_told_and_is_in_the_rerun(lab: Lab) -> None:
    lab.rig.hook.lines = WARNING_LINES
    judgement = lab.run(narrow, era="warn", eras="/home/me/eras.toml")
    assert judgement.reason == "warned: MAXPHYADDR lowered\nera warn of 5.10 is named by --era"
    assert (lab.cell.predicted, lab.cell.predicted_by) == ("warn", "--era")
    assert (lab.folder / "rerun.txt").read_text() == f"{RERUN} --era warn --eras /home/me/eras.toml\n"


def test_the_right_to_load_kvm_anew_is_in_the_rerun(lab: Lab) -> None:
    lab.run(narrow, reload_kvm=True)
    assert (lab.folder / "rerun.txt").read_text() == f"{RERUN} --reload-kvm\n"


def test_where_nothing_is_predicted_the_probe_decides(lab: Lab) -> None:
    lab.version = "5.13.0+"
    judgement = lab.run(narrow)
    assert judgement.verdict is Verdict.PASS
    assert judgement.reason.startswith(
        "silent: MAXPHYADDR lowered; consistent with era silent\nno prediction for 5.10: "
    )
    assert (lab.cell.predicted, lab.cell.predicted_by, lab.cell.probed) == ("unknown", "development tree", "silent")


@pytest.mark.parametrize(("lines", "verdict"), [(0, Verdict.FAIL), (2, Verdict.PASS)])
def test_where_nothing_is_predicted_only_what_the_probe_showed_passes(lab: Lab, lines: int, verdict: Verdict) -> None:
    lab.version = "5.13.0+"
    lab.probe = Probe("accepted", "accepted", lines, lines)
    lab.rig.hook.lines = WARNING_LINES
    assert lab.run(narrow).verdict is verdict


@pytest.mark.parametrize("where", ["setup", "open_rig"])
@pytest.mark.parametrize("error", [UsageError("the patch does not apply"), LabError("no boot", "its console")])
def test_a_rig_that_cannot_be_made_in_the_midst_of_a_job_is_an_error(lab: Lab, where: str, error: Exception) -> None:
    lab.fails[where] = error
    judgement = lab.run(narrow)
    assert (judgement.verdict, judgement.reason) == (Verdict.ERROR, f"{error}; rerun: {RERUN}")
    assert (lab.cell.verdict, seen_in_words(lab.cell), lab.cell.probed) == (Verdict.ERROR, "", "")
    assert lab.cell.predicted == ("" if where == "setup" else "silent")
    told = (lab.folder / "lab-failure.txt").read_text()
    assert told == f"{error}\n\n{getattr(error, 'evidence', '')}\n"
    assert lab.names() == {"lab-failure.txt", "rerun.txt", "cell.json"}


def test_another_kernel_than_the_job_began_with_is_an_error(lab: Lab) -> None:
    assert lab.run(narrow, kernel="d1").verdict is Verdict.PASS
    judgement = lab.run(narrow, kernel="d0")
    assert (judgement.verdict, "was built anew" in judgement.reason) == (Verdict.ERROR, True)


def test_what_the_cpu_lacks_is_a_skip_with_evidence(lab: Lab) -> None:
    judgement = lab.run(lambda guest: guest.set_cpuid("sev_cbit=47"))
    assert judgement.verdict is lab.cell.verdict is Verdict.SKIP
    assert judgement.reason.startswith("sev_cbit=47 changes nothing")
    assert lab.cell.probed == ""
    assert lab.names() == EVIDENCE | {"cell.json"}


def test_where_the_lab_fails_the_evidence_is_of_that_moment(lab: Lab) -> None:
    def fail(_: Guest) -> None:
        lab.rig.texts["qemu-stderr"] = "as it is now"
        lab.rig.qmp.registers = "HLT=1"
        raise LabError("a program did not end in time", "what it printed")

    judgement = lab.run(fail)
    assert (judgement.verdict, judgement.reason) == (
        Verdict.ERROR,
        f"a program did not end in time; rerun: {RERUN}",
    )
    assert (lab.folder / "qemu-stderr.txt").read_text() == "as it is now"
    assert "HLT=1" in (lab.folder / "readings.txt").read_text()
    assert (lab.folder / "lab-failure.txt").read_text() == "a program did not end in time\n\nwhat it printed\n"
    assert "observation.json" not in lab.names()


def nobody_reaches(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpuidlab.experiment.observe.END_SECONDS", 0.01)
    monkeypatch.setattr("cpuidlab.experiment.guest_exit.STUCK_LOOK_SECONDS", 0.0)
    lab.rig.login_fails = LabError("no login", "the last attempt")


def test_a_guest_that_nobody_saw_keeps_no_promise(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_reaches(lab, monkeypatch)
    judgement = lab.run(narrow)
    assert (judgement.verdict, judgement.reason) == (Verdict.ERROR, f"no login; rerun: {RERUN}")
    assert (lab.folder / "lab-failure.txt").read_text() == "no login\n\nthe last attempt\n"
    assert (seen_in_words(lab.cell), lab.cell.probed) == ("silent", "")
    assert "when the lab failed" in (lab.folder / "readings.txt").read_text()
    unseen = from_json((lab.folder / "observation.json").read_text()).unseen
    assert unseen and unseen.why == "no login"


def test_a_guest_that_nobody_saw_hides_no_broken_promise(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_reaches(lab, monkeypatch)
    lab.rig.hook.errno = 22
    judgement = lab.run(narrow)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.startswith("KVM_SET_CPUID was answered EINVAL on vCPU 0, EINVAL on vCPU 1")
    assert seen_in_words(lab.cell) == "refused EINVAL"


def test_a_probe_that_fails_is_an_error_after_all_was_seen(lab: Lab) -> None:
    lab.probe = LabError("the probe's rig is lost")
    assert lab.run(narrow).reason == f"the probe's rig is lost; rerun: {RERUN}"
    assert seen_in_words(lab.cell) == "silent"
    assert "observation.json" in lab.names()


@pytest.mark.parametrize("stated", [PromiseUnderTest(changed), PromiseUnderTest(changed, calls=3)])
def test_calls_that_a_test_does_not_make_are_an_error(lab: Lab, stated: PromiseUnderTest) -> None:
    def story(guest: Guest) -> None:
        if stated.calls:
            narrow(guest)

    judgement = lab.run(story, stated)
    assert judgement.verdict is Verdict.ERROR
    assert judgement.reason.startswith(
        "KVM_SET_CPUID was called 2 times instead of 3" if stated.calls else "KVM_SET_CPUID was never called"
    )


BARE = PromiseUnderTest(changed, calls=1, stage=Stage.HOST_READY)


def frozen(vm: BareVm) -> None:
    vm.make_vcpu()
    vm.run()
    vm.set_cpuid("maxphyaddr=36")


def test_a_promise_without_a_guest_is_kept_or_broken(lab: Lab) -> None:
    assert lab.run(frozen, BARE).verdict is Verdict.PASS
    assert {"calls.txt", "host-log.txt", "observation.json", "cell.json"} <= lab.names()
    assert lab.opened_with[0] == "host_ready"
    lab.rig.bare.changed = "EINVAL"
    judgement = lab.run(frozen, BARE)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.startswith("KVM_SET_CPUID was answered EINVAL on vCPU 0 instead of accepted")


def test_what_a_host_lacks_without_a_guest_is_a_skip_with_evidence(lab: Lab) -> None:
    judgement = lab.run(lambda vm: vm.add_xen_leaves(), BARE)
    assert (judgement.verdict, "built without Xen" in judgement.reason) == (Verdict.SKIP, True)
    assert "calls.txt" in lab.names()


def test_a_lab_that_fails_without_a_guest_is_an_error_with_evidence(lab: Lab) -> None:
    lab.rig.bare.exit_reason = 8
    assert lab.run(frozen, BARE).verdict is Verdict.ERROR
    assert "run " in (lab.folder / "calls.txt").read_text()


def test_without_a_guest_nothing_is_promised_of_one() -> None:
    assert BARE.in_paging("npt")(era("warn")).guest is None


def test_a_promise_may_differ_under_npt() -> None:
    stated = PromiseUnderTest(untouched, npt=no_fault, calls=2)
    shadow, npt = (stated.in_paging(paging)(era("warn")) for paging in ("shadow", "npt"))
    assert shadow == Expectation(None, calls=2, model="asked")
    assert npt.notes == no_fault(era("warn")).notes
    assert PromiseUnderTest(untouched).in_paging("npt")(era("warn")) == untouched(era("warn"))
