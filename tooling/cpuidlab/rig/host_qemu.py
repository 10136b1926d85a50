"""Choose the QEMU that carries nested hosts: this machine's own, or Debian 12's where a trial of our own fails.

The trial runs guests/svm_trial.S: does TCG intercept a guest's reads of CR3? KVM's shadow paging needs that. QEMU 7.2
does it, 10.0 does not (docs/findings.md). Debian 12's QEMU then carries the hosts in each paging mode, so that the
matrices of two machines agree.
"""

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import NotMadeError, file_digest, made
from cpuidlab.base.command import run
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.kept_digests import kept_digest
from cpuidlab.base.paths import GUESTS, TOOLING
from cpuidlab.kernels import aptfetch, suites
from cpuidlab.rig.compiled import compiled

QEMU = "qemu-system-x86_64"
ACCEL = "tcg"  # of a nested host, where the user names no other
SVM = "svm=on,npt=on"
CPU = f"EPYC,{SVM}"  # of a nested host

SUITE = "bookworm"
PACKAGES = ("qemu-system-x86",)
FETCHED = Kind("qemu", cost=300)
FETCHED_MB = 43  # in 104 packages
_LAUNCHER = TOOLING / "qemu" / QEMU

TRIAL = GUESTS / "svm_trial.S"
TRIALS = Kind("trials", cost=1)
_ANSWER = "exit-code"
_FLAGS = ("-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-Ttext=0x100000")
_MACHINE = (
    "-machine", f"q35,accel={ACCEL}", "-cpu", CPU, "-m", "64", "-nodefaults", "-no-user-config", "-display", "none",
    "-device", "isa-debug-exit,iobase=0x501,iosize=1",
)  # fmt: skip
_TRIAL_SECONDS = 20
# QEMU's exit code for the letter that guests/svm_trial.S writes to isa-debug-exit: twice the letter, plus 1.
READ_SEEN, READ_MISSED = 2 * ord("C") + 1, 2 * ord("H") + 1


@dataclass(frozen=True)
class HostQemu:
    """A QEMU that carries hosts: the program to start, and the file that tells one build from another."""

    program: str
    binary: Path
    origin: str = ""  # where it comes from; empty where it is this machine's own

    @property
    def version(self) -> str:
        """What it says of itself, and where it comes from."""
        first = run([self.program, "--version"], seconds=20).partition("\n")[0]
        return f"{first}{self.origin and f', {self.origin}'}"


@cache
def host_qemu() -> HostQemu:
    """Return the QEMU that carries nested hosts; fetch Debian 12's where this machine's own misses reads of CR3.

    Raises UsageError where QEMU is not installed, LabError where a trial does not run or the other cannot be fetched.
    """
    own = own_qemu()
    if sees_cr3_reads(own):
        return own
    folder = made(FETCHED, SUITE, {"packages": " ".join(PACKAGES), "launcher": _LAUNCHER.read_text()}, _fetch)
    fetched = HostQemu(str(folder / QEMU), folder / "root/usr/bin" / QEMU, f"fetched from Debian's suite {SUITE}")
    if not sees_cr3_reads(fetched):
        raise LabError(f"{fetched.version}: it does not intercept a guest's reads of CR3 either")
    return fetched


def own_qemu() -> HostQemu:
    """Return this machine's own QEMU. Raises UsageError where QEMU is not installed."""
    program = shutil.which(QEMU)
    if program is None:
        raise not_installed()
    return HostQemu(QEMU, Path(program))


def qemu_for(accel: str) -> HostQemu:
    """Return the QEMU that carries nested hosts under that accelerator; the trial is about TCG alone."""
    return host_qemu() if accel == ACCEL else own_qemu()


def not_installed() -> UsageError:
    """Return the error for a machine without QEMU."""
    return UsageError(f"{QEMU} is not installed; 'make setup' installs what is needed")


@cache
def sees_cr3_reads(qemu: HostQemu) -> bool:
    """Tell whether a QEMU under TCG intercepts a guest's reads of CR3; about 0.5 s, once for each QEMU.

    Raises LabError where the trial ends with an exit code that is neither READ_SEEN nor READ_MISSED.
    """
    digest = kept_digest(qemu.binary)
    inputs = {"qemu": digest, "trial": file_digest(TRIAL), "made": " ".join(_FLAGS), "run": " ".join(_MACHINE)}
    try:
        folder = made(TRIALS, f"svm-{digest[:8]}", inputs, lambda into: _keep_answer(qemu.program, into / _ANSWER))
    except NotMadeError:  # who only looks is told all the same
        return _answer(qemu.program) == READ_SEEN
    return int((folder / _ANSWER).read_text()) == READ_SEEN


def _keep_answer(program: str, file: Path) -> None:
    file.write_text(str(_answer(program)))


def _answer(program: str) -> int:
    code = _run_trial(program)
    if code not in (READ_SEEN, READ_MISSED):
        raise LabError(f"the trial of QEMU's SVM, {TRIAL.name}, ended with exit code {code}: {program} does not run it")
    return code


def _run_trial(program: str) -> int:
    """Run the trial under TCG and return QEMU's exit code."""
    kernel = compiled("svm-trial", [TRIAL], *_FLAGS)
    words = [program, *_MACHINE, "-kernel", str(kernel)]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIAL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"the trial of QEMU's SVM, {TRIAL.name}, did not end within {_TRIAL_SECONDS} s") from error
    return done.returncode


def _fetch(into: Path) -> None:
    """Unpack the packages with all that they depend on into `into`, with the script that starts their QEMU."""
    aptfetch.fetch_whole(suites.suite_named(SUITE), PACKAGES, into / "root")
    shutil.copy(_LAUNCHER, into / QEMU)
