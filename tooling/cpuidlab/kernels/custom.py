"""A kernel of the user's own, from a built tree or from an image and its modules, laid out in the cache like any other.

Only what a host boots is read: the image, and those modules that guests/host/modules.list names, with what they depend
on. So a rebuilt kernel is a new one, an unchanged one is known again at once, and `make` may go on while tests run.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base import artifacts, command
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.paths import GUESTS, cache_dir
from cpuidlab.kernels import bzimage
from cpuidlab.kernels.bzimage import Banner
from cpuidlab.kernels.host_spec import HostSpec
from cpuidlab.kernels.kernel import Kernel

RECIPE = "1"  # raised when _lay_out makes something else of the same files
IMAGE = "arch/x86/boot/bzImage"
BUILD = "make bzImage modules"
LISTED = GUESTS / "host/modules.list"
CONFIG = GUESTS / "host/kernel.config"
IMPLIED = "# IMPLIED"  # what follows need not be checked: the lines before cannot be there without it
UNPACK = {".xz": ["xz", "-d"], ".zst": ["zstd", "-dq", "--rm"]}  # what kmod reads; busybox in the host knows no zstd


@dataclass(frozen=True)
class Found:
    """A kernel where the user has it: its modules' files by name; `builtin` is None where nothing tells."""

    image: Path
    modules: Mapping[str, Path]
    builtin: frozenset[str] | None
    mend: str  # what the user does about a module that is missing
    strip: bool


def resolve(spec: HostSpec) -> Kernel:
    """The kernel of a spec of kind "tree" or "image"; raises UsageError in one line where it cannot be tested."""
    with _told(spec):
        if spec.kind == "tree":
            found = _tree(Path(spec.location))
            banner = bzimage.banner(found.image)
        else:
            image, _, modules = spec.location.partition(",")
            banner = bzimage.banner(Path(image))
            found = _image(Path(image), Path(modules), banner)
        needed = _needed(found, banner)
        inputs = {"vmlinuz": artifacts.file_digest(found.image), "recipe": RECIPE}
        inputs |= {f"module {name}": artifacts.file_digest(file) for name, file in needed.items()}
    label = _label(spec.label if spec.kind == "tree" else f"image:{banner.release}", spec.location)
    folder = artifacts.made("kernels", label, inputs, lambda into: _lay_out(into, banner, found, needed))
    modules_there = folder / "lib/modules" / banner.release
    return Kernel(
        spec.absolute, label, banner.release, banner.version, "", folder / "vmlinuz", modules_there, folder.name
    )


def _label(label: str, path: str) -> str:
    """The label to show: the first kernel of that name keeps it as it is, another has a part of its path's hash too."""
    pin = cache_dir() / "kernels/pins" / label
    pin.parent.mkdir(parents=True, exist_ok=True)
    partial = pin.with_name(f"{label}.{os.getpid()}.partial")
    partial.write_text(path)
    try:
        if pin.exists() and not Path(pin.read_text().partition(",")[0]).exists():
            pin.unlink()  # that one is gone
        with suppress(FileExistsError):
            pin.hardlink_to(partial)
    finally:
        partial.unlink()
    return label if pin.read_text() == path else f"{label}-{artifacts.key_of({'path': path})[:4]}"


@contextmanager
def _told(spec: HostSpec) -> Iterator[None]:
    """Say of which host a complaint is; what cannot be read is one."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"host '{spec.text}': cannot read {error.filename}: {error.strerror}") from error
    except (UsageError, LabError) as error:
        raise UsageError(f"host '{spec.text}': {error}") from error


def _tree(folder: Path) -> Found:
    """A built kernel tree, or the folder given to make as O=."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    if not (folder / IMAGE).exists():
        raise UsageError(f"{folder} holds no {IMAGE}; build one there for x86-64: {BUILD}")
    _check_config(folder)
    order = _lines(folder / "modules.order") or []
    # kernel/x.ko, x.ko or x.o: it has changed twice
    files = [folder / re.sub(r"\.k?o$", ".ko", line.removeprefix("kernel/")) for line in order]
    return Found(folder / IMAGE, _by_name(files), _builtin(folder), f"set it in .config, then {BUILD}", strip=True)


def _image(image: Path, given: Path, banner: Banner) -> Found:
    """An image with its lib/modules/RELEASE or the parent of that."""
    if not given.is_dir():
        raise UsageError(f"there is no folder {given}")
    inside = given / banner.release
    folder = inside if inside.is_dir() else given
    found = sorted(folder.rglob("*.ko*"))  # what lies in updates/ comes last and counts
    files = [file for file in found if file.suffix in {".ko", *UNPACK}]
    if not files and not (folder / "modules.builtin").exists():
        raise UsageError(f"{given} holds neither modules nor a folder {banner.release}, which is the image's release")
    return Found(
        image,
        _by_name(files),
        _builtin(folder),
        "it takes a kernel that has it, as .ko, .ko.xz or .ko.zst",
        strip=False,
    )


def _check_config(folder: Path) -> None:
    """Say at once what would show as a host that does not boot, two minutes later."""
    lines = _lines(folder / ".config")
    if lines is None:
        return
    wanted = [line for line in CONFIG.read_text().partition(IMPLIED)[0].splitlines() if line.startswith("CONFIG_")]
    lacking = [line.partition("=")[0] for line in wanted if not {line, line.replace("=m", "=y")} & set(lines)]
    if lacking:
        merge = f"scripts/kconfig/merge_config.sh .config {CONFIG} && {BUILD}"
        raise UsageError(f"the kernel is built without {', '.join(lacking)}; to add what is missing: {merge}")
    if "CONFIG_MODULE_SIG_FORCE=y" in lines:
        raise UsageError(
            "the kernel loads signed modules only, and make signs them when it installs them:"
            f" make modules_install INSTALL_MOD_PATH=DIR, then image:{folder / IMAGE},DIR/lib/modules"
        )


def _needed(found: Found, banner: Banner) -> dict[str, Path]:
    """The modules that the host loads; UsageError where one is missing or of another kernel."""
    wanted = [_name(line) for line in LISTED.read_text().split("\n") if line and not line.startswith("#")]
    needed: dict[str, Path] = {}
    while wanted:
        missing = [name for name in wanted if name not in found.modules]
        if found.builtin is not None and (lost := [name for name in missing if name not in found.builtin]):
            raise UsageError(f"the kernel lacks {', '.join(lost)}: {found.mend}")
        new = {name: found.modules[name] for name in wanted if name in found.modules}
        for file in new.values():
            if not file.exists():
                raise UsageError(f"{file} is not built: {BUILD}")
        told = _modinfo(new.values())
        for file, fields in zip(new.values(), told, strict=True):
            other = (fields.get("vermagic", "").split() or ["no release at all"])[0]
            if other != banner.release:
                raise UsageError(f"{file} is of {other}, the image is of {banner.release}: they must be of one build")
        needed |= new
        depends = dict.fromkeys(_name(name) for fields in told for name in fields["depends"].split(",") if name)
        wanted = [name for name in depends if name not in needed]
    return needed


def _modinfo(files: Iterable[Path]) -> list[dict[str, str]]:
    """What modinfo tells of each file; one call for all, as unpacking them is what takes time."""
    names = [str(file) for file in files]
    text = command.run(["modinfo", *names], seconds=30) if names else ""
    parts = re.split(r"(?m)^filename: ", text)[1:]
    return [{"depends": "", **dict(re.findall(r"(?m)^(\w+): *(.*)$", part))} for part in parts]


def _lay_out(into: Path, banner: Banner, found: Found, needed: Mapping[str, Path]) -> None:
    shutil.copyfile(found.image, into / "vmlinuz")
    folder = into / "lib/modules" / banner.release / "kernel"
    folder.mkdir(parents=True)
    for file in needed.values():
        copy = folder / file.name
        if found.strip:
            command.run(["strip", "--strip-debug", "-o", str(copy), str(file)], seconds=60)
            continue
        shutil.copyfile(file, copy)  # its signature is part of it
        if copy.suffix in UNPACK:
            command.run([*UNPACK[copy.suffix], str(copy)], seconds=60)
    command.run(["depmod", "-b", str(into), banner.release], seconds=60)
    facts = {"release": banner.release, "version": banner.version, "suite": ""}
    (into / "kernel.json").write_text(json.dumps(facts))


def _builtin(folder: Path) -> frozenset[str] | None:
    lines = _lines(folder / "modules.builtin")
    return None if lines is None else frozenset(_by_name(Path(line) for line in lines))


def _by_name(files: Iterable[Path]) -> dict[str, Path]:
    return {_name(file.name.partition(".ko")[0]): file for file in files}


def _name(text: str) -> str:
    return text.replace("-", "_")


def _lines(file: Path) -> Sequence[str] | None:
    return file.read_text().splitlines() if file.exists() else None
