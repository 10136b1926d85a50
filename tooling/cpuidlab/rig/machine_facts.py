"""What a real machine is and can do: its kernel, how KVM pages there, its QEMU, and whether its log may be read."""

import re
from dataclasses import dataclass

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UnsupportedError
from cpuidlab.rig.reach import Reach

# How each of KVM's two modules calls the parameter that chooses two-dimensional paging, and that paging mode.
PAGING_PARAMETER = {"kvm_amd": "npt", "kvm_intel": "ept"}
QEMUS = ("qemu-system-x86_64", "/usr/libexec/qemu-kvm", "qemu-kvm", "kvm")
LOG_READERS = ("", "sudo -n ")  # from the least right to the most
# What a reader would have to be allowed; each line is one way.
ALLOW_LOG = "sudo sysctl kernel.dmesg_restrict=0, or a sudo rule that lets the user read /dev/kmsg without a password"

# One line `name=value` for each fact; what is not there is an empty value. Another job may load KVM anew just now: its
# module is away for a second.
_ASK = f"""
p() {{ echo "$1=$2"; }}
looks=0
while [ -d /sys/module/kvm ] && ! (: <>/dev/kvm) 2>/dev/null && [ $looks -lt 15 ]; do
  looks=$((looks + 1)); sleep 0.2
done
p release "$(uname -r)"
p version "$(cat /proc/version)"
p machine "$(uname -m)"
p node "$(uname -n)"
p boot "$(cat /proc/sys/kernel/random/boot_id)"
p user "$(id -un 2>/dev/null || id -u)"
p kvm "$([ -e /dev/kvm ] && echo there)"
p kvm_opens "$( (: <>/dev/kvm) 2>/dev/null && echo yes)"
for path in {" ".join(f"/sys/module/{name}" for name in PAGING_PARAMETER)} /sys/module/kvm_*; do
  [ -d $path ] || continue
  p module ${{path##*/}}
  for name in {" ".join(PAGING_PARAMETER.values())}; do
    [ -r $path/parameters/$name ] && p paging "$(cat $path/parameters/$name)"
  done
  break
done
for qemu in {" ".join(QEMUS)}; do command -v $qemu >/dev/null 2>&1 && p qemu "$(command -v $qemu)" && break; done
p qemu_version "$("$(command -v $qemu)" --version 2>/dev/null | sed -n 1p)"
p root "$([ "$(id -u)" = 0 ] && echo yes || {{ sudo -n true 2>/dev/null && echo sudo; }})"
p overcommit "$(cat /proc/sys/vm/overcommit_memory)"
sed -n 's/: */=/p' /proc/meminfo
"""


@dataclass(frozen=True)
class MachineFacts:
    """A real machine as it was found; empty values are what it does not have.

    `module` is kvm_amd, kvm_intel or that of a paravirtual KVM, `paging` the mode that the module runs with now: npt,
    ept or shadow. `root` is "yes", "sudo" (without a password) or empty. `free_mib` is the memory that is free for a
    guest.
    """

    name: str
    release: str
    version: str
    node: str
    boot: str
    user: str
    module: str
    paging: str
    qemu: str
    qemu_version: str
    root: str
    free_mib: str

    @property
    def qemu_major(self) -> int | None:
        """The major version of its QEMU; None where QEMU does not say it."""
        found = re.search(r"version (\d+)\.", self.qemu_version)
        return int(found[1]) if found else None

    @property
    def sudo(self) -> str:
        """What is put before a command that needs root."""
        return "sudo -n " if self.root == "sudo" else ""


def ask(reach: Reach, deadline: Deadline) -> MachineFacts:
    """Ask a machine for its facts.

    Raises UnsupportedError, in one line that says what is missing, where KVM or QEMU cannot be used there; LabError
    where the machine does not answer.
    """
    text = reach.run(_ASK, deadline, check=False)
    facts = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    if not facts.get("release"):
        raise LabError(f"{reach.name}: the machine does not say what it is", text)
    lacking = _lacking(facts)
    if lacking:
        raise UnsupportedError(f"{reach.name}: {lacking}")
    names = MachineFacts.__dataclass_fields__
    worked_out = {"name": reach.name, "paging": _paging(facts), "free_mib": _free_mib(facts)}
    return MachineFacts(**({name: facts.get(name, "") for name in names} | worked_out))


def _lacking(facts: dict[str, str]) -> str:
    user = facts.get("user", "")
    checks = (
        (facts.get("machine") == "x86_64", f"it is a {facts.get('machine')} machine, and CPUID is x86's"),
        (facts.get("kvm") == "there", "it has no /dev/kvm: load kvm_amd or kvm_intel, or allow nesting"),
        (facts.get("kvm_opens") == "yes", f"{user} may not open /dev/kvm: sudo usermod -aG kvm {user}"),
        (bool(facts.get("module")), "neither kvm_amd nor kvm_intel is loaded, nor another KVM"),
        (bool(facts.get("qemu")), f"it has no QEMU: none of {', '.join(QEMUS)} is there"),
    )
    return next((text for good, text in checks if not good), "")


def _paging(facts: dict[str, str]) -> str:
    on = facts.get("paging") in ("Y", "1")
    return PAGING_PARAMETER.get(facts["module"], "shadow") if on else "shadow"


def _free_mib(facts: dict[str, str]) -> str:
    """Return how many MiB a new process may use, by the machine's /proc/meminfo; empty where it does not tell."""

    def kib(name: str) -> int:
        return int(facts[name].removesuffix(" kB"))

    try:
        free = kib("MemAvailable") + kib("SwapFree")
        if facts["overcommit"] == "2":  # the kernel then promises no more than CommitLimit to all processes
            free = min(free, kib("CommitLimit") - kib("Committed_AS"))
    except (KeyError, ValueError):
        return ""
    return str(max(free, 0) // 1024)
