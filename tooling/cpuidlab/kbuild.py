"""KVM's modules rebuilt with a patch."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cpuidlab import command
from cpuidlab.aptfetch import Suite
from cpuidlab.errors import UsageError

RECIPE = "1"


@dataclass(frozen=True)
class Target:
    """The kernel whose KVM is rebuilt."""

    release: str
    version: str
    suite: Suite
    modules: Path


def rebuild(target: Target, patch: Path, into: Path) -> None:
    raise UsageError("not supported yet")


def depmod(root: Path, release: str) -> None:
    """Write modules.dep and its companions for ROOT/lib/modules/RELEASE."""
    program = shutil.which("depmod", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or "depmod"
    command.run([program, "-b", str(root), release], seconds=120)
