"""One command in a kernel that virtme-ng boots, and the same on a restored host of ours: two whole commands, timed.

virtme-ng is no part of the project: the two are compared where `vng` and a kernel that it can boot are installed.
"""

import shutil
import sys
import time
from pathlib import Path

from cpuidlab.base.command import run
from cpuidlab.base.die_with_parent import DIE_WITH_US
from cpuidlab.base.errors import LabError
from cpuidlab.base.paths import PROJECT

HOST = "7.3"
QUESTION = ("--", "uname", "-r")
SECONDS = 600.0


def vng_command(kernel: Path | None) -> list[str]:
    """Return the command that boots `kernel`, or the newest one installed, without KVM; nothing where that cannot be.

    Its file system comes by 9p: virtiofsd of some distributions does not start, and vng waits for it.
    """
    program = shutil.which("vng")
    installed = sorted(Path("/boot").glob("vmlinuz-*"), key=lambda file: file.stat().st_mtime)
    found = kernel or (installed[-1] if installed else None)
    if program is None or found is None:
        return []
    return [program, "--disable-kvm", "--force-9p", "-r", str(found), *QUESTION]


def shell_command() -> list[str]:
    """Return the command that asks a restored host."""
    return [str(Path(sys.executable).with_name("cpuidlab")), "shell", "--host", HOST, *QUESTION]


def timed(command: list[str]) -> float:
    """Return the seconds that the command takes; LabError where it fails or does not print a kernel's release."""
    started = time.perf_counter()
    said = run([*DIE_WITH_US, *command], seconds=SECONDS, cwd=PROJECT)
    seconds = time.perf_counter() - started
    if not said[:1].isdigit():
        raise LabError(f"{command[0]} printed no kernel's release: {said[-200:]!r}")
    return seconds
