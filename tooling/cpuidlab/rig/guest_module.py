"""The guest's kernel module, guests/guest/probe, compiled for the guest's kernel."""

import os
import shutil
from pathlib import Path

from filelock import FileLock

from cpuidlab.base import artifacts, command
from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.errors import LabError
from cpuidlab.base.paths import GUESTS
from cpuidlab.kernels import buildtree, suites
from cpuidlab.kernels.kernel import Kernel

PROBE = GUESTS / "guest" / "probe"
SOURCES = ("cpuidprobe.c", "Kbuild")
MODULE = "cpuidprobe.ko"
RECIPE = "1"  # raised when this file makes another module from the same sources
BUILD_SECONDS = 300  # 6 s on two cores
MODULES = Kind("probe", cost=40)  # with the guests' rigs, which hold the module
HEADERS = Kind("headers", cost=200)
# Debian's kernel comes without what these options need: a vmlinux with debug information.
OPTIONS = ("CONFIG_DEBUG_INFO=", "CONFIG_DEBUG_INFO_BTF_MODULES=")


def probe_module(guest_kernel: Kernel) -> Path:
    """Return the page-table probe for `guest_kernel`: a .ko file in the cache. The kernel's headers are fetched.

    Raises UsageError where the archive has no headers of that kernel or no compiler is installed, LabError where the
    headers cannot be fetched or the module does not compile.
    """
    inputs = {name: artifacts.file_digest(PROBE / name) for name in SOURCES}
    inputs |= {"kernel": guest_kernel.digest, "recipe": RECIPE}
    return artifacts.made(MODULES, guest_kernel.label, inputs, lambda into: _build(guest_kernel, into)) / MODULE


def _build(kernel: Kernel, into: Path) -> None:
    """Compile a copy of the sources, and keep only the module."""
    tree = _tree(kernel)
    work = into / "work"
    work.mkdir()
    for name in SOURCES:
        shutil.copyfile(PROBE / name, work / name)
    make = ["make", "-C", str(tree / "usr/src/headers"), f"M={work}", f"CC={buildtree.compiler(tree)}", *OPTIONS]
    with FileLock(str(tree) + ".lock", timeout=artifacts.LOCK_SECONDS):
        buildtree.mend(tree)
        try:
            command.run([*make, "modules"], seconds=BUILD_SECONDS, env={**os.environ, **buildtree.ENGLISH})
        except LabError as error:
            reason = buildtree.first_error(error.evidence, work) or error
            raise LabError(f"{MODULE} does not compile for {kernel.release}: {reason}", error.evidence) from error
    command.run(["strip", "--strip-debug", "-o", str(into / MODULE), str(work / MODULE)], seconds=60)
    shutil.rmtree(work)


def _tree(kernel: Kernel) -> Path:
    suite = suites.suite_named(kernel.suite)
    inputs = {"release": kernel.release, "version": kernel.version, "recipe": buildtree.RECIPE}
    return artifacts.made(
        HEADERS,
        kernel.release,
        inputs,
        lambda folder: buildtree.unpack(kernel.release, kernel.version, suite, buildtree.HEADERS, folder),
    )
