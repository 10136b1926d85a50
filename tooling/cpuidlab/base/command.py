"""Run a program of this machine to its end, with a deadline and an error that says what the program printed."""

import errno
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpuidlab.base.errors import LabError, UsageError


def run(
    command: Sequence[str], *, seconds: float = 600, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run `command` and return its standard output.

    Raises UsageError where the program is not installed, OSError(ENOSPC) where it ran out of disk, LabError where it
    fails or runs longer than `seconds`.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, env=_with_sbin(env), timeout=seconds, check=False, text=True, errors="replace",
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise UsageError(f"{command[0]} is not installed; 'make setup' installs what is needed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{command[0]} did not end within {seconds:.0f} s") from error
    if done.returncode == 0:
        return done.stdout
    if "No space left on device" in done.stderr + done.stdout:
        raise OSError(errno.ENOSPC, f"{command[0]}: no space left on device")
    raise LabError(
        f"{command[0]} failed with exit code {done.returncode}: {last_line(done.stderr or done.stdout)}",
        evidence=f"$ {' '.join(command)}\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}",
    )


def _with_sbin(env: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment with the folders of depmod and its like in PATH: a plain user's PATH may lack them."""
    wanted = dict(os.environ if env is None else env)
    return wanted | {"PATH": f"{wanted.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


def last_line(text: str) -> str:
    """Return the last line of `text` that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
