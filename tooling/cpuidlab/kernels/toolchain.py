"""Bring the compiler that a newer suite builds its kernels with, where this machine lacks it.

The compiler lies in a folder of that suite's packages, which only the build enters. Nothing is installed.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpuidlab.base import artifacts
from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.paths import cache_dir
from cpuidlab.kernels import aptfetch, buildtree, suites

TOOLCHAINS = Kind("toolchain", cost=240)
RECIPE = "1"  # raised when _fill makes another folder of the same packages

# The build sees the cache at its usual path: make notes absolute paths in the tree. The mounts end with the namespace.
_ENTER = """\
mkdir -p "$1$2"
for folder in /proc /dev "$2"; do mount --rbind "$folder" "$1$folder"; done
root=$1
shift 2
exec chroot "$root" "$@"
"""


def command(folder: Path, release: str, line: Sequence[str]) -> list[str]:
    """Return the command that runs `line` (which starts with make) for the build tree in `folder`, with a compiler."""
    row = _row(folder, release)
    if row is None:
        return [*line, f"CC={buildtree.compiler(folder)}"]
    root = _root(row["suite"], row["packages"])
    inside = [*line, f"CC={row['compiler']}"]
    return ["unshare", "--map-root-user", "--mount", "sh", "-euc", _ENTER, "sh", str(root), str(cache_dir()), *inside]


def _row(folder: Path, release: str) -> dict[str, Any] | None:
    """Return the toolchain that this kernel needs; None where a compiler of this machine does."""
    rows: list[dict[str, Any]] = suites.data()["toolchains"]
    row = next((row for row in rows if row["mark"] in release), None)
    return row if row and not any(map(shutil.which, buildtree.named_compilers(folder))) else None


def _root(suite: str, packages: Sequence[str]) -> Path:
    inputs = {"suite": suite, "packages": " ".join(packages), "recipe": RECIPE}
    return artifacts.made(TOOLCHAINS, suite, inputs, lambda into: _fill(into, suite, packages)) / "root"


def _fill(into: Path, suite: str, packages: Sequence[str]) -> None:
    root = into / "root"
    aptfetch.fetch_whole(suites.suite_named(suite), packages, root)
    (root / "usr/bin/awk").symlink_to("mawk")  # by the package's script elsewhere
    for folder in ("proc", "dev", "tmp"):
        (root / folder).mkdir(exist_ok=True)
