"""Read and unpack package files, .deb or .rpm, of any vendor. Nothing is installed, and no package database is used."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cpuidlab.base import command
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.kernels.host_spec import Kind

SECONDS = 300  # for one program and one package, which may have 100 MB
MAGIC = {"deb": b"!<arch>\n", "rpm": b"\xed\xab\xee\xdb"}
# Print the version and the architecture of a package. Signatures are left out: their keys are not here.
DESCRIBE = {
    "deb": ["dpkg-deb", "--show", "--showformat=${Version}\n${Architecture}\n"],
    "rpm": ["rpm", "--query", "--package", "--nosignature", "--queryformat=%{VERSION}-%{RELEASE}\n%{ARCH}\n"],
}
ARCHITECTURES = ("amd64", "x86_64", "x86_64_v2", "x86_64_v3")
NO_ARCHITECTURE = ("all", "noarch")  # of firmware and documentation
_SIGNED_AGAIN = re.compile(r"\+\d+$")  # Ubuntu may append this to the version of linux-image, but not of linux-modules


@dataclass(frozen=True)
class Package:
    """A package for x86-64, or for any machine; `version` is that of its build."""

    kind: Kind
    file: Path
    version: str
    architecture: str


def read(kind: Kind, file: Path) -> Package:
    """Read what a package says of itself; UsageError where it is none, is damaged, or is not for x86-64."""
    with file.open("rb") as opened:
        if opened.read(len(MAGIC[kind])) != MAGIC[kind]:
            raise UsageError(f"{file} is no {kind} package")
    if kind == "rpm":
        _check_digests(file)
    version, architecture = _run([*DESCRIBE[kind], str(file)], file).split()
    if architecture not in (*ARCHITECTURES, *NO_ARCHITECTURE):
        raise UsageError(f"{file} is for {architecture}, and the hosts are x86-64")
    return Package(kind, file, version, architecture)


def check_one_build(packages: Sequence[Package]) -> None:
    """Raise UsageError for packages of several builds: the release of two builds may be the same."""
    versions = {_SIGNED_AGAIN.sub("", one.version): one for one in packages if one.architecture in ARCHITECTURES}
    if len(versions) > 1:
        told = ", ".join(f"{one.file.name} is {version}" for version, one in versions.items())
        raise UsageError(f"the packages are of {len(versions)} builds, and a host has one kernel: {told}")


def unpack(package: Package, root: Path) -> None:
    """Unpack the package's files into the folder `root`; UsageError where it is damaged.

    Symbolic links are left out: one with an absolute path would lead to a file of this machine.
    """
    if package.kind == "deb":
        _run(["dpkg-deb", "--extract", str(package.file), str(root)], package.file)
    else:
        tar = root / "files.tar"
        _run(["sh", "-c", 'rpm2archive -n - <"$1" >"$2"', "sh", str(package.file), str(tar)], package.file)
        _run(["tar", "--extract", "--no-same-owner", "--file", str(tar), "--directory", str(root)], package.file)
        tar.unlink()
    for file in list(root.rglob("*")):
        if file.is_symlink():
            file.unlink()


def _check_digests(file: Path) -> None:
    """Compare the rpm's bytes with its digests: rpm2archive does not notice a changed byte."""
    with TemporaryDirectory() as database:  # else rpmkeys would make one in the user's home
        _run(["rpmkeys", "--checksig", "--nosignature", "--dbpath", database, str(file)], file)


def _run(line: Sequence[str], file: Path) -> str:
    try:
        return command.run(line, seconds=SECONDS)
    except LabError as error:
        raise UsageError(f"{file} is cut short or damaged: {error}") from error
