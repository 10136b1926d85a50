"""A rig on a real machine. Nothing of the machine is the lab's but the guest, a new one for each test."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import made
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.error_text import first_line
from cpuidlab.base.errors import LabError, UnsupportedError
from cpuidlab.kvm import kmsg
from cpuidlab.kvm.kmsg import Record
from cpuidlab.kvm.warning import WARNING_LEVEL, WARNING_LINES
from cpuidlab.rig.boot import run_guest, start_guest
from cpuidlab.rig.guest_config import PROFILES, Profile
from cpuidlab.rig.job_folder import is_shared, job_folder
from cpuidlab.rig.kvm_module import reload
from cpuidlab.rig.machine_facts import PAGING_PARAMETER, MachineFacts
from cpuidlab.rig.real_host import RealHost
from cpuidlab.rig.real_setup import RealSetup
from cpuidlab.rig.rig import Rig, RigFacts, Stage
from cpuidlab.rig.saved_guest import Known, SavedGuest

TURN_SECONDS = 400.0  # one test at a time on a machine: how long a test waits until the others are done
CHECK_SECONDS = 20.0  # for the look at the settings after the end
_KVM_PROCESS = re.compile(r"\bkvm \[(\d+)\]: ")
TRIALS = Kind("trials", cost=10)
PARAVIRTUAL_SECONDS = 60.0
TRIAL_SECONDS = 240.0  # for one boot of a guest; on hardware about two
# IA32_ARCH_CAPABILITIES: QEMU sets it for each vCPU that has it, and dies where KVM refuses that.
MSR_REFUSED, WITHOUT_MSR = "failed to set MSR 0x10a", ",arch-capabilities=off"
_INTERNAL_ERROR = re.compile(r"KVM internal error[^\n]*\n[^\n]*")  # as QEMU says it, with the line that says which
WINDOW_SECONDS = 5.0  # DEFAULT_RATELIMIT_INTERVAL (include/linux/ratelimit_types.h)


class RealRig(Rig):
    """A guest on a real machine; `host` is the machine itself."""

    def __init__(self, setup: RealSetup, host: RealHost, deadline: Deadline) -> None:
        """Take over a machine on which it is this job's turn."""
        super().__init__(setup, host, host.layout, deadline)
        self.real_host = host
        self._known: Known | None = None  # of the guest
        self._threads: set[int] = set()  # of the guest's QEMU, as the machine numbers them
        self.user = host.facts.user
        self.log_refused = host.log_refused

    @property
    def host(self) -> RealHost:
        """The machine: programs and files there."""
        return self.real_host

    def launch(self, profile: Profile) -> None:
        """Start the guest's QEMU in the private network."""
        self.profile = profile
        script = f"cd {self.layout.folder}\n{profile.start_command(self.layout)}\nwait\n"
        self.real_host.start_script(script, self.deadline)

    def write_setting(self, path: str, value: str) -> None:
        """Write a setting of the machine's kernel; it is put back at the end. UnsupportedError without the right."""
        self.real_host.write_setting(path, value, self.deadline)

    def await_quiet_log(self) -> None:
        """Wait until an earlier test's warning lines no longer count in the kernel's rate limit."""
        records = kmsg.parse(self.files()["host-log"])
        lines = [line for text in WARNING_LINES for line in kmsg.matching(records, text, WARNING_LEVEL)]
        if not lines:
            return
        uptime = float(self.real_host.run("cat /proc/uptime", self.deadline).split()[0])
        passed = uptime - max(line.seconds for line in lines)
        self.deadline.pause(max(WINDOW_SECONDS - passed, 0.0))

    def note_threads(self) -> None:
        """Note the threads of the guest's QEMU: what KVM logs may name them after their end."""
        self._threads |= self.real_host.threads(self.deadline)

    def foreign_line(self, log: Sequence[Record]) -> str | None:
        """Return a line of KVM's that names a process which is not this test's."""
        self.note_threads()
        for record in log:
            named = _KVM_PROCESS.search(record.text)
            if named and int(named[1]) not in self._threads:
                return record.text
        return None

    def make_guest_ready(self, profile: Profile) -> None:
        """Bring the rig from HOST_READY to GUEST_READY, the quicker way; a guest that serves nobody else is booted."""
        host = self.real_host
        if not is_shared(host.job_folder):
            start_guest(self, profile)
            run_guest(self)
            return
        self._known = SavedGuest(self, profile, host.job_folder, host.facts.paging).make_ready()

    def facts(self) -> RigFacts:
        """Say, after `close`, what the results tell of the rig. LabError where a changed setting is not back."""
        settings = self.real_host.settings.proofs(Deadline.after(CHECK_SECONDS))
        known = self._known or Known(0.0)
        return RigFacts(self.guest_start, known.boot, known.restore, known.trouble, settings)


def open_real_rig(setup: RealSetup, stage: Stage, profile: Profile, seconds: float) -> RealRig:
    """Return a running rig on a real machine; the deadline begins with this job's turn there.

    Raises UnsupportedError where the machine cannot do what the setup says, LabError where it fails.
    """
    if setup.mismatch:
        raise UnsupportedError(setup.mismatch)
    known = machine_trial(setup)
    if stage is Stage.GUEST_READY and known.no_linux:
        raise UnsupportedError(known.no_linux)
    rig = _open(setup, stage, known.on(profile), seconds)
    rig.no_linux = known.no_linux
    return rig


def _open(setup: RealSetup, stage: Stage, profile: Profile, seconds: float) -> RealRig:
    folder = job_folder(setup.reach, setup.facts.qemu, setup.cargo)
    host = RealHost.start(setup.reach, folder, Deadline.after(TURN_SECONDS))
    rig = RealRig(setup, host, Deadline.after(seconds))
    try:
        if host.facts.boot != setup.facts.boot:
            raise LabError(f"{host.name} has booted anew since the job began; run the job again")
        if host.facts.paging != setup.paging:
            _reload(setup, rig)
        _check_memory(host.facts, profile)
        rig.await_quiet_log()
        if stage is Stage.GUEST_HELD:
            start_guest(rig, profile)
        elif stage is Stage.GUEST_READY:
            rig.make_guest_ready(profile)
        rig.note_threads()
    except BaseException:
        rig.close()
        rig.facts()  # raises where a setting is not back, which is the greater trouble
        raise
    return rig


def _check_memory(facts: MachineFacts, profile: Profile) -> None:
    """Raise UnsupportedError where the machine has less free memory than the guest may use."""
    if facts.free_mib and int(facts.free_mib) < profile.memory_mib:
        needed = f"the guest {profile.name} has {profile.memory_mib} MiB"
        raise UnsupportedError(f"{facts.name}: {needed}, and the machine has {facts.free_mib} MiB of free memory")


def _reload(setup: RealSetup, rig: RealRig) -> None:
    """Load the vendor module anew. UnsupportedError where that is not allowed: another job has changed the mode."""
    if not setup.reload_kvm:
        raise UnsupportedError(f"{rig.real_host.name} runs {rig.real_host.facts.paging} paging now, not {setup.paging}")
    reload(rig.real_host, setup.paging, rig.deadline)


@dataclass(frozen=True)
class MachineTrial:
    """What a real machine's KVM can do: what a guest's CPU leaves out there, and why no Linux boots; "" where it does.

    A paravirtual KVM may run vCPUs and no Linux.
    """

    left_out: str
    no_linux: str

    def on(self, profile: Profile) -> Profile:
        """Return the profile with a CPU that this machine's KVM can make."""
        return replace(profile, cpu=f"{profile.cpu}{self.left_out}")


def machine_trial(setup: RealSetup) -> MachineTrial:
    """Try once after each boot of a machine whether Linux boots on its KVM. Raises LabError where that is not known."""
    inputs = {"machine": setup.identity, "qemu": setup.facts.qemu_version}
    folder = made(TRIALS, setup.name, inputs, lambda new: _try_into(setup, new / "trial.json"))
    return MachineTrial(**json.loads((folder / "trial.json").read_text()))


def _try_into(setup: RealSetup, file: Path) -> None:
    file.write_text(json.dumps(asdict(_try(setup, ""))) + "\n")


def _try(setup: RealSetup, left_out: str) -> MachineTrial:
    """Boot the smallest guest as a test does; where KVM refuses a register of its CPU, once more without it.

    On a paravirtual KVM a guest may also stand still without a word, which no other lack of the lab explains.
    """
    profile = MachineTrial(left_out, "").on(PROFILES["small"])
    is_paravirtual = setup.facts.module not in PAGING_PARAMETER
    seconds = PARAVIRTUAL_SECONDS if is_paravirtual else TRIAL_SECONDS
    with _open(setup, Stage.HOST_READY, profile, seconds) as rig:
        try:
            start_guest(rig, profile)
            run_guest(rig)
            return MachineTrial(left_out, "")
        except LabError as error:
            said = rig.files()["qemu-stderr"]
            if left_out or MSR_REFUSED not in said:
                gave_up = _INTERNAL_ERROR.search(said)
                if gave_up is None and not is_paravirtual:
                    raise
                why = " ".join(gave_up[0].split()) if gave_up else f"{setup.facts.module}: {first_line(str(error))}"
                return MachineTrial(left_out, f"vCPUs run on {setup.facts.name}, and no Linux guest boots there: {why}")
    return _try(setup, WITHOUT_MSR)
