"""Bochs, built once from Debian's source with a patch of our own; it emulates the Intel CPU of a nested host.

Debian's own binary cannot do it: it cannot be saved without a display, and that of Debian 13 does not run on Debian 12.
A saved machine fits the build that saved it, so the build is named by the content of source, patch and options.
"""

import os
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cpuidlab.base import command
from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import made
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.paths import TOOLING
from cpuidlab.kernels import aptfetch
from cpuidlab.kernels.suite import Suite

BUILDS = Kind("bochs", cost=600)
VERSION = "3.0+dfsg-1"
SUITE = Suite("trixie-sources", calls="trixie", sources=True, prefixes=("bochsbios",))
BIOS_PACKAGE, BIOS = "bochsbios", "usr/share/bochs/BIOS-bochs-latest"
PATCH = TOOLING / "bochs" / "bochs.patch"
COMPILER = "g++"
FETCHED_MB = 24  # once: the suite's lists, 20, and source and BIOS
BUILD_SECONDS = 3600  # two to five minutes of one processor
_UNPACK_SECONDS = 120
# No display and no devices but those of the host. Without BX_SUPPORT_SMP time runs on while the only CPU is halted.
OPTIONS = (
    "--with-nogui", "--without-x11", "--without-wx", "--without-sdl", "--without-sdl2", "--without-term",
    "--without-rfb", "--disable-docbook", "--disable-debugger", "--disable-debugger-gui", "--disable-readline",
    "--disable-plugins", "--disable-large-ramfile", "--disable-sb16", "--disable-es1370",
    "--enable-cpu-level=6", "--enable-x86-64", "--enable-fpu", "--enable-vmx=2", "--enable-avx", "--enable-evex",
    "--enable-pci", "--enable-a20-pin", "--enable-all-optimizations", "--enable-show-ips",
)  # fmt: skip
FLAGS = "-O3 -fno-plt -pipe"  # for any x86-64: a cache may be copied to another machine


@dataclass(frozen=True)
class Bochs:
    """A build in the cache."""

    folder: Path

    @property
    def program(self) -> Path:
        """The program."""
        return self.folder / "bochs"

    @property
    def bios(self) -> Path:
        """The BIOS of its machines; Bochs knows it by its name."""
        return self.folder / Path(BIOS).name

    @property
    def version(self) -> str:
        """What results say of it."""
        return f"Bochs {VERSION.partition('+')[0]}, built from Debian's source with {PATCH.name}"


@cache
def bochs() -> Bochs:
    """Return the build; make it where the cache has none, in minutes.

    Raises UsageError where no compiler is installed, LabError where the source cannot be had or does not compile.
    """
    _, *changes = PATCH.read_text().partition("--- a/")  # other words for a reason make no other build
    inputs = {"version": VERSION, "patch": "".join(changes), "options": " ".join(OPTIONS), "flags": FLAGS}
    return Bochs(made(BUILDS, VERSION, inputs, _build))


def lacking() -> str:
    """Return the program without which Bochs cannot be built here; "" where all are there."""
    return next((program for program in (COMPILER, "make") if not shutil.which(program)), "")


def _build(into: Path) -> None:
    """Fill `into` with program and BIOS."""
    lack = lacking()
    if lack:
        raise UsageError(f"--accel bochs compiles Bochs, and {lack} is not installed: apt-get install {lack}")
    source, packages = into / "source", into / "packages"
    aptfetch.packages(SUITE)
    archive = aptfetch.fetch_source(SUITE, "bochs", VERSION, into)
    aptfetch.fetch(SUITE, {BIOS_PACKAGE: VERSION}, packages)
    shutil.copy(packages / BIOS, into)
    source.mkdir()
    command.run(["tar", "-xf", str(archive), "-C", str(source), "--strip-components=1"], seconds=_UNPACK_SECONDS)
    command.run(["patch", "-p1", "-f", "-s", "-d", str(source), "-i", str(PATCH)], seconds=_UNPACK_SECONDS)
    _compile(source)
    shutil.copy(source / "bochs", into)
    shutil.rmtree(source)
    shutil.rmtree(packages)
    archive.unlink()


def _compile(source: Path) -> None:
    """Configure and compile in the folder `source`."""
    env = {**os.environ, "LC_ALL": "C", "CFLAGS": FLAGS, "CXXFLAGS": FLAGS}
    jobs = len(os.sched_getaffinity(0))
    try:
        command.run(["./configure", *OPTIONS], seconds=BUILD_SECONDS, cwd=source, env=env)
        command.run(["make", f"-j{jobs}"], seconds=BUILD_SECONDS, cwd=source, env=env)
    except LabError as error:
        found = re.search(r"(?m)^\S+: (?:fatal )?error: .*|^configure: error: .*", error.evidence)
        raise LabError(f"Bochs does not compile: {found[0] if found else error}", error.evidence) from error
