"""Lay out a tree that modules compile in, from Debian's headers packages: usr/src/headers and usr/src/common."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.kernels import aptfetch, suites
from cpuidlab.kernels.suite import Suite
from cpuidlab.kernels.version import upstream

RECIPE = "1"  # raised when `unpack` makes another tree of the same packages
HEADERS = ("headers", "common", "kbuild")  # the roles of the packages, as tooling/kernels.toml names them
# The kernel's own compiler is looked for first, then these: an old kernel does not compile with the newest.
COMPILERS = ("gcc-12", "gcc-13", "gcc-11", "gcc")
# make's messages are read, so they must be English; the kernel's Makefile drops LC_ALL but heeds LANG.
ENGLISH = {"LC_ALL": "C", "LANG": "C", "LANGUAGE": "C"}


def unpack(release: str, version: str, suite: Suite, roles: Sequence[str], folder: Path) -> None:
    """Fetch the packages of those roles for a kernel (`uname -r`, package version) and lay `folder`/usr out."""
    aptfetch.fetch(suite, _wanted(release, version, suite, roles), folder / "deb")
    (folder / "deb/usr").rename(folder / "usr")
    shutil.rmtree(folder / "deb")
    src = folder / "usr/src"
    (src / f"linux-headers-{_abi(release)}-common").rename(src / "common")
    (src / f"linux-headers-{release}").rename(src / "headers")
    shutil.rmtree(folder / "usr/share", ignore_errors=True)


def mend(folder: Path) -> None:
    """Point the tree's absolute paths at the place where it lies now; an unchanged file stays untouched."""
    makefile = folder / "usr/src/headers/Makefile"
    before = makefile.read_text()
    lines = [f"include {folder}/usr/src/common/Makefile"]
    if "KBUILD_OUTPUT=" in before:  # since 6.13
        lines.insert(0, f"KBUILD_OUTPUT={folder}/usr/src/headers")
    after = "".join(f"{line}\n" for line in lines)
    if after != before:
        makefile.write_text(after)


def compiler(folder: Path) -> str:
    """Return the compiler that the kernel was built with if it is installed, else the best installed compiler."""
    for name in (*named_compilers(folder), *COMPILERS):
        if shutil.which(name):
            return name
    raise UsageError("gcc is not installed; 'make setup' installs what is needed")


def named_compilers(folder: Path) -> list[str]:
    """Return the compilers that the kernel's headers name: those that the kernel was built with."""
    variables = (folder / "usr/src/headers/.kernelvariables").read_text()
    return re.findall(r"\bgcc-\d+", variables)


def first_error(output: str, root: Path) -> str | None:
    """Return the first line in which the compiler or modpost finds the source under `root` wrong; None if none."""
    match = re.search(r"(?m)^(?:\S+:\d+:(?:\d+:)? (?:fatal )?error: .*|ERROR: modpost: .*)", output)
    if match is None:
        return None
    line: str = match[0]
    return line.replace(f"{root}/", "").replace("arch/x86/kvm/../../../", "")


def _abi(release: str) -> str:
    flavour: str = suites.data()["build"]["flavour"]
    return release.removesuffix(flavour)


def _wanted(release: str, version: str, suite: Suite, roles: Sequence[str]) -> dict[str, str]:
    """Return the packages (name to version) that the tree is made from; UsageError where the suite lacks one."""
    listed = aptfetch.packages(suite)
    series = "{}.{}".format(*upstream(version))
    wanted = {}
    for role in roles:
        names: list[str] = suites.data()["build"][role]
        choices = [name.format(release=release, abi=_abi(release), series=series) for name in names]
        chosen = next((name for name in choices if name in listed), None)
        if chosen and role == "kbuild" and version not in listed[chosen]:
            wanted[chosen] = listed[chosen][0]  # these are only the tools, and the tools of a near version do as well
        elif chosen and version in listed[chosen]:
            wanted[chosen] = version
        else:
            raise UsageError(
                f"no module of {release} can be built: {suite.name} has no {' nor '.join(choices)} of version {version}"
            )
    return wanted
