"""An initramfs: a folder is filled, then packed into an archive that depends on names, modes and bytes alone."""

import functools
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpuidlab.base.command import run
from cpuidlab.base.errors import UsageError
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.rig.keys import Keys

DRACUT_INSTALL = "/usr/lib/dracut/dracut-install"
SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_FOLDERS = ("bin", "dev", "etc/dropbear", "lib/modules", "proc", "root/.ssh", "run", "sbin", "sys", "tmp")


@functools.cache
def find(name: str) -> Path:
    """Return the path of a program of this machine, or of a file. Raises UsageError where there is none."""
    program = shutil.which(name, path=SEARCH_PATH)
    if program:
        return Path(program)
    if Path(name).is_file():
        return Path(name)
    raise UsageError(f"{name} is not installed, and the images need it; 'make setup' installs what is needed")


def lay_base(root: Path, keys: Keys, files: Sequence[str], copies: Mapping[str, Path]) -> None:
    """Fill the new folder `root`: busybox, accounts and keys, `files` with their libraries, and `copies` of others.

    `copies` maps a path in the VM to a file of this machine.
    """
    _lay_skeleton(root, keys)
    run([DRACUT_INSTALL, "-D", str(root), "-l", "-a", *(str(find(name)) for name in files)], seconds=120)
    lay_files(root, copies)


def lay_files(root: Path, copies: Mapping[str, Path]) -> None:
    """Put copies of files into the folder `root`; `copies` maps a path in the VM to a file of this machine."""
    for name, path in copies.items():
        _copy(path, root / name)


def _lay_skeleton(root: Path, keys: Keys) -> None:
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True)
    (root / "init").symlink_to("sbin/init")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/shells").write_text("/bin/sh\n")
    _copy(keys.host_key_dropbear, root / "etc/dropbear/host_key", 0o600)
    _copy(keys.client_public, root / "root/.ssh/authorized_keys", 0o600)
    (root / "root/.ssh").chmod(0o700)
    (root / "root").chmod(0o700)
    for applet in run(["busybox", "--list-full"]).split():
        link = root / applet
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.name != "busybox":
            link.symlink_to("/bin/busybox")


def lay_modules(root: Path, kernel: Kernel, modules: Sequence[str]) -> None:
    """Put modules and their dependencies under the kernel's own lib/modules/RELEASE of `root`.

    A module that the kernel has built in is no file (virtio_pci in 7.3). A module that is really missing shows at boot.
    """
    (root / "lib/modules").mkdir(parents=True)  # else dracut-install makes lib a link, and the base has it as a folder
    wanted = [name for name in modules if name.replace("-", "_") in _names_of_modules(kernel)]
    where = ["--kerneldir", str(kernel.modules), "--firmwaredirs", "/nonexistent"]
    if wanted:
        run([DRACUT_INSTALL, "-D", str(root), *where, "-m", *wanted], seconds=120)
    inside = root / "lib/modules" / kernel.release
    stray = root / kernel.modules.relative_to("/")
    if stray.is_dir() and not inside.exists():
        stray.rename(inside)
    inside.mkdir(exist_ok=True)
    run(["depmod", "-b", str(root), kernel.release], seconds=60)


def _names_of_modules(kernel: Kernel) -> set[str]:
    files = (line.split(":")[0] for line in (kernel.modules / "modules.dep").read_text().splitlines())
    return {Path(file).name.split(".")[0].replace("-", "_") for file in files}


def _copy(source: Path, target: Path, mode: int | None = None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copy(source, target)
    if mode is not None:
        target.chmod(mode)


def append(root: Path, image: Path) -> None:
    """Append the folder `root` to `image` as a newc cpio archive, and remove the folder.

    The kernel unpacks the archives of an image one after the other.
    """
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    for name in [*names, "."]:
        os.utime(root / name, (0, 0), follow_symlinks=False)
    listing = image.with_name("names")
    listing.write_text("".join(f"{name}\n" for name in names))
    pack = 'cpio --quiet -o -H newc --reproducible -R 0:0 <"$1" >>"$2"'
    run(["sh", "-c", pack, "sh", str(listing), str(image)], cwd=root, seconds=120)
    listing.unlink()
    shutil.rmtree(root)
