"""Use a kernel of the user's own, from a built tree or from an image and its modules, laid out in the cache.

Only what a host boots is read: the image, and those modules that guests/host/modules.list names, with what they depend
on. So a rebuilt kernel is a new kernel, an unchanged kernel is known again at once, and `make` may go on while tests
run.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cpuidlab.base import artifacts, command
from cpuidlab.base.errors import FULL_DISK, LabError, UsageError
from cpuidlab.base.paths import GUESTS
from cpuidlab.kernels import bzimage, needed_modules, pins
from cpuidlab.kernels.bzimage import Banner
from cpuidlab.kernels.host_spec import HostSpec
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.kernels.needed_modules import BUILD, UNPACK, Modules, name_of
from cpuidlab.kernels.pins import KERNELS

RECIPE = "1"  # raised when lay_out makes something else of the same files
IMAGE = "arch/x86/boot/bzImage"
CONFIG = GUESTS / "host/kernel.config"
IMPLIED = "# IMPLIED"  # what follows need not be checked: the lines before cannot be there without it


@dataclass(frozen=True)
class Source:
    """A kernel where the user has it: its image, what the image says of itself, and its modules.

    With `strip` the modules lose their debug information in the cache. Signed modules must not: they lose their
    signature with it.
    """

    image: Path
    banner: Banner
    modules: Modules
    strip: bool


def resolve(spec: HostSpec) -> Kernel:
    """Return the kernel of a spec of kind "tree" or "image"; UsageError in one line where it cannot be tested."""
    with TemporaryDirectory() as scratch:
        with naming(spec):
            source = _tree(*spec.paths) if spec.kind == "tree" else _image(*spec.paths)
            needed = needed_modules.find(source.modules, source.banner.release, Path(scratch))
            inputs = {"vmlinuz": artifacts.file_digest(source.image), "recipe": RECIPE}
            inputs |= {f"module {name}": artifacts.file_digest(file) for name, file in needed.items()}
        release = source.banner.release
        label = free_label(spec.label if spec.kind == "tree" else f"image:{release}", spec.location)
        folder = artifacts.made(KERNELS, label, inputs, lambda into: lay_out(into, source, needed.values()))
    return Kernel(
        spec=spec.absolute, label=label, release=release, version=source.banner.version, suite="",
        vmlinuz=folder / "vmlinuz", modules=folder / "lib/modules" / release, digest=folder.name,
    )  # fmt: skip


def free_label(label: str, path: str) -> str:
    """Return the label to show: another kernel with the label of an earlier one gets a part of its path's hash too."""
    return label if pins.claim(label, path) else f"{label}-{artifacts.key_of({'path': path})[:4]}"


@contextmanager
def naming(spec: HostSpec) -> Iterator[None]:
    """Put the host's name before each complaint; a file that cannot be read is a complaint too, a full disk is none."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise
        raise UsageError(f"host '{spec.text}': cannot read {error.filename}: {error.strerror}") from error
    except (UsageError, LabError) as error:
        raise UsageError(f"host '{spec.text}': {error}") from error


def _tree(folder: Path) -> Source:
    """Read a built kernel tree, or the folder that was given to make as O=."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    if not (folder / IMAGE).exists():
        raise UsageError(f"{folder} holds no {IMAGE}; build one there for x86-64: {BUILD}")
    _check_config(folder)
    # kernel/x.ko, x.ko or x.o: modules.order has changed twice
    order = [line.removeprefix("kernel/") for line in _lines(folder / "modules.order") or []]
    files = [folder / re.sub(r"\.k?o$", ".ko", line) for line in order]
    modules = Modules(_by_name(files), _builtin(folder), f"set it in .config, then {BUILD}")
    return Source(folder / IMAGE, bzimage.banner(folder / IMAGE), modules, strip=True)


def _image(image: Path, given: Path) -> Source:
    """Read an image, with `given` as its lib/modules/RELEASE or the parent of that folder."""
    banner = bzimage.banner(image)
    if not given.is_dir():
        raise UsageError(f"there is no folder {given}")
    inside = given / banner.release
    folder = inside if inside.is_dir() else given
    modules = modules_in(folder, "it takes a kernel that has it, as .ko, .ko.xz, .ko.zst or .ko.gz")
    if not modules.files and modules.builtin is None:
        raise UsageError(f"{given} holds neither modules nor a folder {banner.release}, which is the image's release")
    return Source(image, banner, modules, strip=False)


def modules_in(folder: Path, mend: str) -> Modules:
    """Read a folder lib/modules/RELEASE; of two modules of one name the last counts: the one in updates/."""
    files = [file for file in sorted(folder.rglob("*.ko*")) if file.suffix in {".ko", *UNPACK}]
    return Modules(_by_name(files), _builtin(folder), mend)


def _check_config(folder: Path) -> None:
    """Raise UsageError for an option whose lack would show as a host that does not boot, two minutes later."""
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


def lay_out(into: Path, source: Source, needed: Iterable[Path]) -> None:
    """Fill the folder `into` with vmlinuz and lib/modules/RELEASE, with modules.dep."""
    shutil.copyfile(source.image, into / "vmlinuz")
    folder = into / "lib/modules" / source.banner.release / "kernel"
    folder.mkdir(parents=True)
    for file in needed:
        copy = folder / file.name
        if source.strip:
            command.run(["strip", "--strip-debug", "-o", str(copy), str(file)], seconds=60)
        else:
            shutil.copyfile(file, copy)
    command.run(["depmod", "-b", str(into), source.banner.release], seconds=60)


def _builtin(folder: Path) -> frozenset[str] | None:
    """Return the modules that the kernel has built in; None where nothing tells."""
    lines = _lines(folder / "modules.builtin")
    return None if lines is None else frozenset(_by_name(Path(line) for line in lines))


def _by_name(files: Iterable[Path]) -> Mapping[str, Path]:
    return {name_of(file.name.partition(".ko")[0]): file for file in files}


def _lines(file: Path) -> Sequence[str] | None:
    return file.read_text().splitlines() if file.exists() else None
