"""`cpuidlab try`: try one change on one rig, and print each step from the host to the verdict."""

import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.exit_codes import BROKEN, OK
from cpuidlab.experiment import evidence
from cpuidlab.experiment.ask_kernel import probe
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.observation import Observation, to_json
from cpuidlab.experiment.observe import Look
from cpuidlab.judge.discrepancies import Expectation
from cpuidlab.judge.expectations import Promise, changed_at_own_risk, identical, memory_out_of_reach
from cpuidlab.judge.prediction import Prediction, predicted
from cpuidlab.judge.probed_era import probed_era
from cpuidlab.judge.unknown import judge_unknown, suspects_of
from cpuidlab.judge.verdict import Judgement, Verdict, judge
from cpuidlab.kernels import suites
from cpuidlab.kernels.host_spec import is_real
from cpuidlab.kvm import changes, cpuid, field_changes
from cpuidlab.rig.guest_config import PROFILES, Profile
from cpuidlab.rig.host_config import check_accel, setup
from cpuidlab.rig.host_machine import HostSetup
from cpuidlab.rig.host_qemu import ACCEL
from cpuidlab.rig.real_setup import may_reload
from cpuidlab.rig.rig import Stage
from cpuidlab.rig.snapshots import open_rig

SECONDS = 240.0
WIDTHS = (0, 48, 57)  # virtual-address widths; kvm_check_cpuid() refuses any other in every era
AFTERWARDS = {"asked": "the one asked for", "before": "the one from before", "other": "neither the old nor the new one"}
HOPED = {
    "stable": "the guest stays stable",
    "suffers": "the guest dies or is harmed",
    None: "nobody promises what becomes of the guest",
}


@dataclass(frozen=True)
class Trial:
    """What is to be tried; without a `change` the CPUID that each vCPU has is set again."""

    host: str
    change: str = ""
    paging: str = "npt"
    accel: str = ACCEL
    profile: str = "small"
    era: str = ""
    eras: str = ""
    kernels: str = ""
    cold: bool = False
    reload_kvm: bool = False
    evidence: Path | None = None

    @property
    def command(self) -> str:
        """Return the command that repeats the trial."""
        words = [".venv/bin/cpuidlab", "try"]
        given = {name: value for name, value in vars(self).items() if (name, value) != ("accel", ACCEL)}
        for name, value in given.items():
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, value] if value else []
        return shlex.join(words)


def run(trial: Trial) -> int:
    """Try the change and print what happens; return 0 where the promise is kept, 1 where it is broken."""
    started = time.monotonic()
    if trial.change:
        changes.parse(trial.change)  # before anything is fetched or booted
    if trial.profile not in PROFILES:
        raise UsageError(f"there is no profile '{trial.profile}'; known: {', '.join(PROFILES)}")
    if trial.reload_kvm and not is_real(trial.host):
        raise UsageError(f"--reload-kvm is for real machines (local, ssh://HOST), and {trial.host} is none")
    check_accel(trial.accel)
    place = may_reload(setup(trial.host, trial.paging, trial.accel), trial.reload_kvm)
    prediction = predicted(place.kernel, trial.era, trial.eras)
    _tell("host", f"{place.kernel.label}, {trial.paging}, {place.accel}; guest of profile {trial.profile}")
    origin = suites.origin(place.kernel.suite)
    _tell("kernel", f"{place.kernel.release} (version {place.kernel.version}{origin and f', from {origin}'})")
    _tell("predicted", *_predicted(prediction, place.kernel.label))
    promise, seen = _try(trial, place)
    era = prediction.era
    _tell("promised", _promised(promise(era), len(seen.answers)) if era else "what one of the possible eras promises")
    judgement = _judge(trial, place, prediction, promise, seen)
    _tell(judgement.verdict, *judgement.reason.splitlines(), f"{time.monotonic() - started:.1f} s in all")
    return BROKEN if judgement.verdict is Verdict.FAIL else OK


def _try(trial: Trial, place: HostSetup) -> tuple[Promise, Observation]:
    """Make the change on a rig, and return what is promised and what was seen."""
    with open_rig(place, Stage.GUEST_READY, trial.profile, Deadline.after(SECONDS, place.patience), trial.cold) as rig:
        guest = Guest(rig)
        look = Look(guest)
        try:
            _tell("change", _what(trial.change), *_for_all(guest.models_with(trial.change, guest.vcpus), guest.before))
            guest.set_cpuid(trial.change)
            _tell("KVM says", *(f"vCPU {one.vcpu}: {one.answer}" for one in guest.answers))
            seen = look.observe()
        finally:
            _keep(trial.evidence, evidence.files(guest, look))
        if seen.unseen:
            raise LabError(seen.unseen.why, seen.unseen.evidence)
        _keep(trial.evidence, {"observation.json": to_json(seen)})
        _tell("host log", *([f"<{line.level}> {line.text}" for line in seen.host_log] or ["nothing"]))
        _tell("CPUID now", *([AFTERWARDS[seen.model]] if seen.model else ["nobody is left to ask"]))
        _tell("guest", *_guest(seen))
        promise = promise_of(trial.change, PROFILES[trial.profile], trial.paging)
    settings = rig.facts().settings
    if settings:
        _tell("settings", *settings)
    return promise, seen


def promise_of(change: str, profile: Profile, paging: str) -> Promise:
    """Return what the eras promise for a change that is set on vCPUs that have run.

    No era promises what becomes of a guest whose CPUID was changed. The exception is a guest with shadow paging whose
    MAXPHYADDR is below its memory: it must suffer.
    """
    if not (change and changes.parse(change).compared):
        return identical
    width = _number(change, "vaddr_width", "linear_bits")
    if width is not None and width not in WIDTHS:
        return lambda _: Expectation(answer="EINVAL", model="before")
    bits = _number(change, "maxphyaddr")
    is_below = bits is not None and bits <= 32 and profile.memory_mib > 2048  # q35 puts the rest above 4 GiB
    return memory_out_of_reach if is_below and paging == "shadow" else changed_at_own_risk


def _judge(trial: Trial, place: HostSetup, prediction: Prediction, promise: Promise, seen: Observation) -> Judgement:
    """Judge; the kernel is probed where nothing is predicted of it, or where it is not what its era predicts."""
    words = {"promise": f"{trial.change or 'the same CPUID'} after KVM_RUN", "rerun": trial.command}
    era = prediction.era
    if era is None:
        shown = None if trial.cold else probe(place)
        judgement = judge_unknown(promise, suspects_of(prediction.among, shown), seen, **words)
    else:
        judgement = judge(promise, era, None, seen, **words)
        if judgement.verdict is Verdict.FAIL and not trial.cold:
            judgement = judge(promise, era, probed_era(probe(place), era), seen, **words)
    if judgement.verdict is Verdict.ERROR:
        raise LabError(judgement.reason, judgement.evidence)
    return judgement


def _predicted(prediction: Prediction, host: str) -> list[str]:
    if prediction.era is None:
        return [prediction.told(host), f"possible: {', '.join(era.name for era in prediction.among)}"]
    return [f"era {prediction.name}: {prediction.era.summary}", *filter(None, [prediction.told(host)])]


def _tell(head: str, *lines: str) -> None:
    for number, line in enumerate(lines):
        print(f"{'' if number else head:<11}{line}", flush=True)


def _what(change: str) -> str:
    return f"{change}: {changes.parse(change).describes()}" if change else "none: the same CPUID once more"


def _for_all(asked: dict[int, cpuid.Model], before: dict[int, cpuid.Model]) -> Iterable[str]:
    """Return the differences, with the vCPUs that each of them is on."""
    vcpus: dict[tuple[str, ...], list[str]] = {}
    for vcpu, model in asked.items():
        vcpus.setdefault(cpuid.diff(before[vcpu], model), []).append(str(vcpu))
    return [f"vCPU {', '.join(numbers)}: {line}" for lines, numbers in vcpus.items() for line in lines]


def _guest(seen: Observation) -> Iterable[str]:
    if not seen.fate.alive:
        after = "" if seen.fate.seconds is None else f", {seen.fate.seconds:.1f} s after the change"
        return [f"died: {seen.fate.how}{after}"]
    if seen.guest is None:
        return ["nobody looked"]
    return ["stable"] if seen.guest.stable else [f"not stable: {trouble}" for trouble in seen.guest.troubles]


def _promised(due: Expectation, calls: int) -> str:
    lines = f"each warning line {calls} times" if due.warns else "no line in the host log"
    return f"{due.answer} on every vCPU, {lines}; {HOPED[due.guest]}"


def _number(change: str, *names: str) -> int | None:
    """The number that a change gives to the field of one of these names; None where none is changed."""
    values = dict(step.strip().partition("=")[::2] for step in change.split(","))
    return next((field_changes.number(values[name]) for name in names if name in values), None)


def _keep(folder: Path | None, files: dict[str, str]) -> None:
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
