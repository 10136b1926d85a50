"""Find the modules that a host loads, with all that they depend on, among the modules of a user's own kernel."""

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base import command
from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import GUESTS
from cpuidlab.base.word_list import read_list

BUILD = "make bzImage modules"
LISTED = GUESTS / "host/modules.list"
# How distributions compress modules. busybox in the host reads no zstd, and modinfo of Debian no gzip.
UNPACK = {".xz": ["xz", "-d"], ".zst": ["zstd", "-dq", "--rm"], ".gz": ["gzip", "-d"]}
OPTIONAL = frozenset({"kvm_intel"})  # emulated hosts load kvm_amd; a host that loads another says at boot what it lacks


@dataclass(frozen=True)
class Modules:
    """The modules of a kernel: their files by name, and the names of those that are built in.

    `builtin` is None where nothing tells what is built in. `mend` is what the user does about a missing module.
    """

    files: Mapping[str, Path]
    builtin: frozenset[str] | None
    mend: str


def find(modules: Modules, release: str, scratch: Path) -> dict[str, Path]:
    """Return the files of the modules that the host loads, by name. Compressed ones are unpacked into `scratch`.

    Raises UsageError where a module is missing, not built yet, or not of this release.
    """
    needed: dict[str, Path] = {}
    wanted = [name_of(word) for word in read_list(LISTED)]
    while wanted:
        _check_none_missing(wanted, modules)
        new = {name: modules.files[name] for name in wanted if name in modules.files}
        plain = [_plain(file, scratch) for file in new.values()]
        needed |= zip(new, plain, strict=True)
        wanted = [name for name in _check_and_depend(new.values(), plain, release) if name not in needed]
    return needed


def _plain(file: Path, scratch: Path) -> Path:
    """Return the module as the kernel loads it; UsageError where it is not built."""
    if not file.exists():
        raise UsageError(f"{file} is not built: {BUILD}")
    if file.suffix not in UNPACK:
        return file
    copy = scratch / file.name
    shutil.copyfile(file, copy)
    command.run([*UNPACK[file.suffix], str(copy)], seconds=60)
    return copy.with_suffix("")


def name_of(text: str) -> str:
    """Return a module's name as the kernel has it: files and lists may have - instead of _."""
    return text.replace("-", "_")


def _check_none_missing(names: Iterable[str], modules: Modules) -> None:
    """Raise UsageError for names that are neither a file nor built in; where nothing tells, the boot will show it."""
    if modules.builtin is None:
        return
    missing = [name for name in names if name not in {*modules.files, *modules.builtin, *OPTIONAL}]
    if missing:
        raise UsageError(f"the kernel lacks {', '.join(missing)}: {modules.mend}")


def _check_and_depend(files: Iterable[Path], plain: Iterable[Path], release: str) -> list[str]:
    """Return the names of all modules that these depend on; UsageError that names the file not of this release."""
    depends: dict[str, None] = {}
    for file, fields in zip(files, _modinfo(plain), strict=True):
        other = (fields.get("vermagic", "").split() or ["no release at all"])[0]
        if other != release:
            raise UsageError(f"{file} is of {other}, the image is of {release}: they must be of one build")
        depends |= dict.fromkeys(name_of(name) for name in fields["depends"].split(",") if name)
    return list(depends)


def _modinfo(files: Iterable[Path]) -> list[dict[str, str]]:
    """Return the fields that modinfo prints of each file; one call for all, for the unpacking takes the time."""
    names = [str(file) for file in files]
    text = command.run(["modinfo", *names], seconds=30) if names else ""
    parts = re.split(r"(?m)^filename: ", text)[1:]
    return [{"depends": "", **dict(re.findall(r"(?m)^(\w+): *(.*)$", part))} for part in parts]
