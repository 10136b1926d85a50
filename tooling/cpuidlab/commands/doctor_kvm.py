"""Try what QEMU can do here: TCG's SVM, and whether a guest really runs on this machine's /dev/kvm.

Nothing is looked up. A machine may have a /dev/kvm that opens and makes VMs and still cannot run a Linux
guest, and QEMU's query-cpu-model-expansion lists features that TCG then leaves out of the CPU it makes.
"""

import json
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base.atomic import write_atomically
from cpuidlab.base.command import last_line

QEMU = "qemu-system-x86_64"
CPU_PATH = "/machine/unattached/device[0]"
KERNEL_SECONDS = 40.0  # until the panic for want of a root: under 2 on hardware; 28 were seen on an emulated machine
BIOS_SECONDS = 2.0
# The last thing a kernel without a root says, the first it says, and what SeaBIOS says on its debug port.
KERNEL_DONE, KERNEL_BEGUN, BIOS_BEGUN = "Unable to mount root fs", "Linux version", "SeaBIOS (version"


@dataclass(frozen=True)
class Emulation:
    """QEMU as found: its version ("" where there is no QEMU) and whether a TCG vCPU has SVM and nested paging."""

    version: str
    svm: bool
    npt: bool
    complaint: str = ""


@dataclass(frozen=True)
class Trial:
    """One guest that was started on /dev/kvm: whether it ran, and the evidence in words."""

    runs: bool
    story: str


def ask_emulation() -> Emulation:
    """Make one stopped vCPU under TCG and read its features back over QMP; about 0.2 s."""
    features = [{"execute": "qom-get", "arguments": {"path": CPU_PATH, "property": name}} for name in ("svm", "npt")]
    requests = [{"execute": "qmp_capabilities"}, *features, {"execute": "quit"}]
    arguments = [*_bare("tcg", "EPYC,svm=on,npt=on"), "-S", "-qmp", "stdio"]
    try:
        done = subprocess.run(
            [QEMU, *arguments], input="\n".join(map(json.dumps, requests)), text=True, capture_output=True,
            timeout=20, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return Emulation("", svm=False, npt=False, complaint=f"{QEMU} is not installed")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Emulation("", svm=False, npt=False, complaint=f"{QEMU} does not run: {error}")
    return _read_emulation(done.stdout, done.stderr)


def _read_emulation(answers: str, errors: str) -> Emulation:
    version, flags = "", []
    for line in answers.splitlines():
        message = json.loads(line)
        if "QMP" in message:
            numbers, package = message["QMP"]["version"]["qemu"], message["QMP"]["version"]["package"]
            version = f"{numbers['major']}.{numbers['minor']}.{numbers['micro']} {package}".strip()
        elif isinstance(message.get("return"), bool):
            flags.append(message["return"])
    svm, npt = flags if len(flags) == 2 else (False, False)
    return Emulation(version, svm, npt, "" if version else last_line(errors))


def try_kvm(emulation: Emulation, kernel: Path | None, memory: Path) -> Trial:
    """Start a guest on /dev/kvm, with `kernel` where one is at hand, else with QEMU's BIOS.

    The answer is kept in the file `memory` until the machine boots again, or QEMU, /dev/kvm or the kernel changes.
    """
    key = f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {emulation.version} {_device()} {kernel}"
    kept = _recall(memory, key)
    if kept is None:
        kept = _boot_kernel(kernel) if kernel else _boot_bios()
        _keep(memory, key, kept)
    return kept


def _device() -> str:
    """Return what changes when KVM is loaded anew; the time stamps of a device also change when it is used."""
    return str(Path("/dev/kvm").stat().st_ino)


def _bare(accel: str, cpu: str) -> list[str]:
    return ["-machine", f"q35,accel={accel}", "-cpu", cpu, "-nodefaults", "-display", "none", "-no-user-config"]


def _boot_kernel(kernel: Path) -> Trial:
    words = "console=ttyS0 earlyprintk=ttyS0 panic=-1"
    output = _boot(["-m", "256", "-kernel", str(kernel), "-append", words, "-serial", "stdio"], KERNEL_SECONDS)
    if KERNEL_DONE in output:
        return Trial(True, f"a Linux guest boots on it ({kernel.name})")
    if KERNEL_BEGUN in output:
        return Trial(False, f"a Linux guest starts on it and does not finish booting within {KERNEL_SECONDS:.0f} s")
    return Trial(False, f"a Linux guest does not boot on it: {_reason(output)}")


def _boot_bios() -> Trial:
    port = ["-chardev", "stdio,id=port", "-device", "isa-debugcon,iobase=0x402,chardev=port"]
    output = _boot(["-m", "64", *port, "-boot", "reboot-timeout=1"], BIOS_SECONDS)
    if BIOS_BEGUN in output:
        return Trial(True, "QEMU's BIOS runs on it; no kernel is cached yet, so Linux was not tried")
    return Trial(False, f"not even QEMU's BIOS runs on it: {_reason(output)}")


def _boot(arguments: list[str], seconds: float) -> str:
    """Return all that a guest on /dev/kvm, and QEMU itself, printed within `seconds`."""
    command = [QEMU, *_bare("kvm", "host"), "-no-reboot", *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode(errors="replace")
    except OSError as error:
        return str(error)
    return done.stdout.decode(errors="replace")


def _reason(output: str) -> str:
    """Return QEMU's first error, for an assertion at the end says less; else the last line."""
    errors = [line.strip() for line in output.splitlines() if "error:" in line]
    return errors[0] if errors else last_line(output)


def _recall(memory: Path, key: str) -> Trial | None:
    try:
        kept: Mapping[str, object] = json.loads(memory.read_text())
        return Trial(bool(kept["runs"]), str(kept["story"])) if kept["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never tried, or a torn file: try again


def _keep(memory: Path, key: str, trial: Trial) -> None:
    with suppress(OSError):  # the check of the cache folder tells of it; here the trial is just made again
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memory, json.dumps({"key": key, "runs": trial.runs, "story": trial.story}))
