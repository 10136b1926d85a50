"""What QEMU's emulation of SVM lacks for a paging mode. A trial tells it, not QEMU's version."""

import subprocess
from functools import cache

from cpuidlab.base.errors import LabError
from cpuidlab.base.paths import GUESTS
from cpuidlab.rig.compiled import compiled
from cpuidlab.rig.qemu_command import ACCEL, CPU, QEMU

TRIAL = GUESTS / "svm_trial.S"
FLAGS = ("-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-Ttext=0x100000")
SECONDS = 20
# QEMU's exit code for the letter that guests/svm_trial.S writes to isa-debug-exit: twice the letter, plus 1.
READ_SEEN, READ_MISSED = 2 * ord("C") + 1, 2 * ord("H") + 1
NO_CR3_INTERCEPT = (
    "this machine's QEMU does not intercept the guest's reads of CR3, and no guest boots under shadow paging on it"
    " (seen with QEMU 10.0, not with 7.2): ask for --paging npt, or use another QEMU, such as tooling/container brings"
)


@cache
def lack(paging: str) -> str:
    """Return why no guest boots in that paging mode under this machine's QEMU; "" where a guest boots.

    Raises LabError where the trial ends with an exit code that is neither READ_SEEN nor READ_MISSED.
    """
    if paging != "shadow":
        return ""
    code = _try_cr3_intercept()
    if code not in (READ_SEEN, READ_MISSED):
        raise LabError(f"the trial of QEMU's SVM, {TRIAL.name}, ended with exit code {code}: QEMU does not run it")
    return NO_CR3_INTERCEPT if code == READ_MISSED else ""


def _try_cr3_intercept() -> int:
    """Run the trial under TCG and return QEMU's exit code; about 0.5 s."""
    kernel = compiled("svm-trial", [TRIAL], *FLAGS)
    words = [
        QEMU, "-machine", f"q35,accel={ACCEL}", "-cpu", CPU, "-m", "64", "-nodefaults", "-no-user-config",
        "-display", "none", "-kernel", str(kernel), "-device", "isa-debug-exit,iobase=0x501,iosize=1",
    ]  # fmt: skip
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"the trial of QEMU's SVM, {TRIAL.name}, did not end within {SECONDS} s") from error
    return done.returncode
