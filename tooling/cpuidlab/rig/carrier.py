"""What carries a nested host: QEMU's emulation of an AMD CPU, Bochs's of an Intel CPU, or this machine's own KVM."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from cpuidlab.base.artifacts import key_of
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import UnsupportedError, UsageError
from cpuidlab.rig.bochs_command import CPU_MODEL
from cpuidlab.rig.host_qemu import ACCEL, CPU, SVM
from cpuidlab.rig.machine_facts import PAGING_PARAMETER, MachineFacts, ask
from cpuidlab.rig.reach import Reach

KVM = "kvm"
BOCHS = "bochs"
ACCELS = (ACCEL, KVM, BOCHS)
ASK_SECONDS = 30.0
TWO_DIMENSIONAL = ("npt", "ept")  # one promise: the hardware walks by the host's rules
NESTS = {"kvm_amd": SVM, "kvm_intel": "vmx=on"}  # QEMU's words for a CPU on which that module of KVM loads
# What of a processor in /proc/cpuinfo a saved host depends on; the rest is its number, its clock and the like.
_CPU_LINES = ("vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags", "vmx flags")


@dataclass(frozen=True)
class Carrier:
    """What runs a nested host: QEMU with an accelerator, or Bochs; and its CPU. The host loads the KVM of `module`.

    `saved_by` is what of this machine a saved host depends on; "" where the emulator alone decides. `model` is the CPU
    model that the user asked for; "" for the usual CPU. `patience` is how many times as long as under QEMU
    everything may take.
    """

    accel: str
    cpu: str
    module: str
    saved_by: str = ""
    model: str = ""
    patience: float = 1.0

    @property
    def name(self) -> str:
        """The accelerator as results name it: "tcg", or another with the vendor of the host's KVM."""
        return self.accel if self.accel == ACCEL else f"{self.accel} ({self.module.removeprefix('kvm_')})"

    @property
    def suffix(self) -> str:
        """What a host's name has behind it, so that no result of one accelerator looks like one of the other."""
        return "" if self.accel == ACCEL else f"-{self.accel}"

    @property
    def two_dimensional(self) -> str:
        """The mode in which the hardware walks both page tables: npt or ept."""
        return PAGING_PARAMETER[self.module]

    def paging(self, mode: str) -> str:
        """Return the mode as the host's KVM calls it; npt and ept stand for the same. UsageError for an unknown one."""
        asked = self.two_dimensional if self.accel != ACCEL and mode in TWO_DIMENSIONAL else mode
        known = (self.two_dimensional, "shadow")
        if asked not in known:
            raise UsageError(f"unknown paging mode '{mode}'; there are {' and '.join(known)}")
        return asked

    def paging_word(self, mode: str) -> str:
        """Return the word of the host's kernel command line that chooses a paging mode, as `kvm_amd.npt=1`."""
        return f"{self.module}.{self.two_dimensional}={int(mode == self.two_dimensional)}"

    def on_cpu(self, model: str) -> "Carrier":
        """Return the same with another CPU model, on which the host's KVM can load."""
        return replace(self, model=model, cpu=model if self.accel == BOCHS else f"{model},{NESTS[self.module]}")


TCG = Carrier(ACCEL, CPU, "kvm_amd")
ON_BOCHS = Carrier(BOCHS, CPU_MODEL, "kvm_intel", patience=4.0)
_EMULATED = {ACCEL: TCG, BOCHS: ON_BOCHS}


@cache
def carrier(accel: str) -> Carrier:
    """Return what carries nested hosts under that accelerator; whether KVM nests here is not tried.

    Raises UsageError for an unknown accelerator, UnsupportedError where this machine's KVM cannot be used at all.
    """
    if accel not in ACCELS:
        raise UsageError(f"unknown accelerator '{accel}'; there are {', '.join(ACCELS)}")
    if accel in _EMULATED:
        return _EMULATED[accel]
    try:
        facts = ask(Reach("this machine"), Deadline.after(ASK_SECONDS))
    except UnsupportedError as error:
        raise UnsupportedError(f"--accel {accel}: {error}") from error
    if facts.module not in NESTS:
        raise UnsupportedError(f"--accel {accel}: this machine runs {facts.module}, in which no KVM of a host can load")
    # migratable: without what cannot be saved, such as an invariant clock
    return Carrier(KVM, f"host,migratable=on,{NESTS[facts.module]}", facts.module, _saved_by(facts))


def cpu_model() -> str:
    """Return the model name of this machine's CPU."""
    return _cpu().get("model name", "unknown CPU")


def _saved_by(facts: MachineFacts) -> str:
    """Return a hash of this machine's CPU and of the kernel that runs on it, with KVM's paging mode."""
    lines = {name: value for name, value in _cpu().items() if name in _CPU_LINES}
    return key_of({**lines, "kernel": facts.version, "release": facts.release, "paging": facts.paging})


def _cpu() -> dict[str, str]:
    """Return what the kernel says of the first processor."""
    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
