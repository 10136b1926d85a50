"""The initramfs of the host and of the guest, assembled from the declared lists in guests/.

An image's name is the hash of everything that was put in on purpose: the lists and scripts, each listed program's
bytes, the kernel's modules, the keys. Built twice from the same inputs it is the same to the byte. The libraries
that a program brings along are those of this machine at build time.
"""

import functools
import os
import shutil
from pathlib import Path

from cpuidlab.base import artifact_gc
from cpuidlab.base.artifacts import file_digest, made
from cpuidlab.base.command import run
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.paths import GUESTS, TOOLING
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.guest_module import PROBE, probe_module
from cpuidlab.rig.host_vm import MEMORY_MIB
from cpuidlab.rig.keys import Keys

DRACUT_INSTALL = "/usr/lib/dracut/dracut-install"
SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# What a VM lacks before it unpacks anything, in MiB: its kernel's own memory, 48, and 64 of bounce buffers (swiotlb)
# where memory may be plugged in above 4 GiB.
KERNEL_MIB = 128
HOOK_IN_HOST = "lib/cpuidhook.so"


def guest_image(kernel: Kernel, keys: Keys) -> Path:
    """The guest's initramfs for `kernel`: a file, the same for all profiles."""
    extra = {
        "lib/cpuidprobe.ko": probe_module(kernel),
        "usr/bin/probe": PROBE / "probe",
        "usr/bin/health": compiled("health", GUESTS / "guest" / "health.c", "-static"),
    }
    image = _image("images", "guest", kernel, _base("guest", keys, extra))
    return check_room("guest", image, min(profile.memory_mib for profile in PROFILES.values()))


def host_base(keys: Keys, guest_kernel: Kernel, hook: Path) -> Path:
    """What the initramfs of every host has in common, the guest's kernel and image and the hook among it: a file."""
    extra = {
        "guest/vmlinuz": guest_kernel.vmlinuz,
        "guest/initrd": guest_image(guest_kernel, keys),
        HOOK_IN_HOST: hook,
    }
    return _base("host", keys, extra)


def host_image(kernel: Kernel, base: Path) -> Path:
    """The host's initramfs for `kernel`: a file. It goes when room is needed; rigs that are frozen can do without."""
    return check_room("host", _image(artifact_gc.BOOTABLE, "host", kernel, base), MEMORY_MIB)


def check_room(role: str, image: Path, memory_mib: int) -> Path:
    """Return `image`; LabError where a "host" or "guest" of `memory_mib` MiB cannot unpack it.

    The archive lies in memory until all is unpacked, and tmpfs, into which it is unpacked, takes half of what is left
    beside the archive (shmem_default_max_blocks in mm/shmem.c). The archive is not compressed.
    """
    size = image.stat().st_size / 2**20
    most = (memory_mib - KERNEL_MIB) / 3
    if size > most:
        raise LabError(
            f"the {role}'s initramfs has {size:.0f} MiB and a {role} of {memory_mib} MiB can unpack {most:.0f} MiB:"
            f" the programs of this machine's distribution are too large for it; give it more memory in the lab's"
            f" source (memory_mib in guest_config.py, MEMORY_MIB in host_vm.py); {image}"
        )
    return image


def hook_library() -> Path:
    """The compiled hook: a shared library to be preloaded into QEMU."""
    return compiled("cpuidhook.so", TOOLING / "hook" / "cpuidhook.c", "-shared", "-fPIC", "-pthread", "-ldl")


def compiled(name: str, source: Path, *flags: str) -> Path:
    """Return the program or library that gcc makes of one source: a file in the cache."""

    def compile_it(folder: Path) -> None:
        words = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(folder / name), str(source), *flags]
        run(words, seconds=60)

    inputs = {"source": file_digest(source), "flags": " ".join(flags)}
    return made("compiled", Path(name).stem, inputs, compile_it) / name


def made_of(role: str, kernel: Kernel, base: Path) -> dict[str, str]:
    """What the initramfs of a "host" or "guest" for `kernel` is made of, without making it."""
    return {"base": base.parent.name, "kernel": kernel.digest, "modules": " ".join(_modules(role))}


def _image(kind: str, role: str, kernel: Kernel, base: Path) -> Path:
    """The base, and behind it the kernel's modules as an archive of their own: all that a new kernel waits for."""

    def assemble(folder: Path) -> None:
        artifact_gc.make_room()
        root = folder / "root"
        (root / "lib/modules").mkdir(parents=True)  # or dracut-install makes lib a link, and it is a folder in the base
        _install_modules(root, kernel, _modules(role))
        shutil.copyfile(base, folder / "initrd")
        _append(root, folder / "initrd")
        shutil.rmtree(root)

    return made(kind, f"{role}-{kernel.label}", made_of(role, kernel, base), assemble) / "initrd"


def _base(role: str, keys: Keys, extra: dict[str, Path]) -> Path:
    """All of an image but the kernel's modules."""
    files = _read_list(GUESTS / "common.list") + _read_list(GUESTS / role / "files.list")
    scripts = {"etc/inittab": GUESTS / "inittab", "etc/rc.common": GUESTS / "rc.common", "etc/rc": GUESTS / role / "rc"}
    extra = extra | {"usr/bin/readout": compiled("readout", GUESTS / "readout.c", "-static")}
    inputs = {"keys": keys.digest, "files": " ".join(files)}
    inputs |= {name: _source_digest(path) for name, path in scripts.items()}
    inputs |= {name: _source_digest(path) for name, path in extra.items()}
    inputs |= {name: _source_digest(_find(name)) for name in files}

    def assemble(folder: Path) -> None:
        root = folder / "root"
        _skeleton(root, keys)
        run([DRACUT_INSTALL, "-D", str(root), "-l", "-a", *(str(_find(name)) for name in files)], seconds=120)
        for name, path in (scripts | extra).items():
            _copy(path, root / name)
        _append(root, folder / "initrd")
        shutil.rmtree(root)

    return made("images", f"{role}-base", inputs, assemble) / "initrd"


def _modules(role: str) -> list[str]:
    return _read_list(GUESTS / role / "modules.list")


def _read_list(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@functools.cache
def _source_digest(path: Path) -> str:
    return file_digest(path)


@functools.cache
def _find(name: str) -> Path:
    found = shutil.which(name, path=SEARCH_PATH)
    if found:
        return Path(found)
    if Path(name).is_file():
        return Path(name)
    raise UsageError(f"{name} is not installed, and the images need it; 'make setup' installs what is needed")


def _skeleton(root: Path, keys: Keys) -> None:
    for folder in ("bin", "dev", "etc/dropbear", "lib/modules", "proc", "root/.ssh", "run", "sbin", "sys", "tmp"):
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


def _install_modules(root: Path, kernel: Kernel, modules: list[str]) -> None:
    """Modules and their dependencies land under the kernel's own lib/modules/RELEASE.

    A module that the kernel has built in is no file (virtio_pci in 7.3); what is truly missing shows at boot.
    """
    files = (line.split(":")[0] for line in (kernel.modules / "modules.dep").read_text().splitlines())
    there = {Path(file).name.split(".")[0].replace("-", "_") for file in files}
    wanted = [name for name in modules if name.replace("-", "_") in there]
    where = ["--kerneldir", str(kernel.modules), "--firmwaredirs", "/nonexistent"]
    if wanted:
        run([DRACUT_INSTALL, "-D", str(root), *where, "-m", *wanted], seconds=120)
    inside = root / "lib/modules" / kernel.release
    stray = root / kernel.modules.relative_to("/")
    if stray.is_dir() and not inside.exists():
        stray.rename(inside)
    inside.mkdir(exist_ok=True)
    run(["depmod", "-b", str(root), kernel.release], seconds=60)


def _copy(source: Path, target: Path, mode: int | None = None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copy(source, target)
    if mode is not None:
        target.chmod(mode)


def _append(root: Path, image: Path) -> None:
    """A newc cpio archive that depends on names, modes and bytes alone; the kernel unpacks one after the other."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    for name in [*names, "."]:
        os.utime(root / name, (0, 0), follow_symlinks=False)
    listing = image.with_name("names")
    listing.write_text("".join(f"{name}\n" for name in names))
    pack = 'cpio --quiet -o -H newc --reproducible -R 0:0 <"$1" >>"$2"'
    run(["sh", "-c", pack, "sh", str(listing), str(image)], cwd=root, seconds=120)
    listing.unlink()
