"""The initramfs of the host and of the guest, assembled from the lists in guests/.

The name of an image is the hash of everything that is put in on purpose: lists and scripts, the bytes of each listed
program, the kernel's modules, the keys. The same inputs give the same bytes. The libraries that a program brings along
are those of this machine at build time; they are not in the hash.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from cpuidlab.base import artifact_gc
from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import made
from cpuidlab.base.errors import LabError
from cpuidlab.base.kept_digests import kept_digest
from cpuidlab.base.paths import GUESTS, TOOLING
from cpuidlab.base.word_list import read_list
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.rig import initramfs
from cpuidlab.rig.compiled import compiled
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.guest_module import PROBE, probe_module
from cpuidlab.rig.keys import Keys
from cpuidlab.rig.qemu_command import MEMORY_MIB

# What a VM lacks before it unpacks anything, in MiB: its kernel's own memory, 48, and 64 of bounce buffers (swiotlb)
# where memory may be plugged in above 4 GiB.
KERNEL_MIB = 128
HOOK = TOOLING / "hook"
HOOK_FLAGS = ("-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-ldl")
HOOK_IN_HOST = "lib/cpuidhook.so"
BOOTABLE = Kind("bootable", cost=0.5)  # images of hosts, which only a cold boot reads
IMAGES = Kind("images", cost=60)  # with the rigs, which are packed as differences from an image


def guest_image(kernel: Kernel, keys: Keys) -> Path:
    """Return the guest's initramfs for `kernel`: a file, the same for all profiles."""
    extra = {
        "lib/cpuidprobe.ko": probe_module(kernel),
        "usr/bin/probe": PROBE / "probe",
        "usr/bin/health": compiled("health", [GUESTS / "guest" / "health.c"], "-static"),
        "usr/bin/ticks": compiled("ticks", [GUESTS / "guest" / "ticks.c"], "-static", "-pthread"),
    }
    image = _image(IMAGES, "guest", kernel, _base("guest", keys, extra), {})
    return check_room("guest", image, min(profile.memory_mib for profile in PROFILES.values()))


def host_base(keys: Keys, guest_kernel: Kernel, hook: Path) -> Path:
    """Return what the initramfs of every host has in common: a file, with the hook and the guest's kernel and image."""
    extra = {
        "guest/vmlinuz": guest_kernel.vmlinuz,
        "guest/initrd": guest_image(guest_kernel, keys),
        HOOK_IN_HOST: hook,
        "usr/bin/barevm": barevm(),
    }
    return _base("host", keys, extra)


def host_image(kernel: Kernel, base: Path, programs: Mapping[str, Path]) -> Path:
    """Return the host's initramfs for `kernel`: a file, with more `programs` than the base has, by their paths there.

    The cache drops the file when it needs room: a host that is restored from a snapshot reads no initramfs.
    """
    return check_room("host", _image(BOOTABLE, "host", kernel, base, programs), MEMORY_MIB)


def check_room(role: str, image: Path, memory_mib: int) -> Path:
    """Return `image`. Raises LabError where a "host" or "guest" of `memory_mib` MiB cannot unpack it.

    The archive is not compressed, and stays in memory until all of it is unpacked. It is unpacked into a tmpfs, whose
    size is half of the memory that is left beside the archive (shmem_default_max_blocks in mm/shmem.c).
    """
    size = image.stat().st_size / 2**20
    most = (memory_mib - KERNEL_MIB) / 3
    if size > most:
        raise LabError(
            f"the {role}'s initramfs has {size:.0f} MiB and a {role} of {memory_mib} MiB can unpack {most:.0f} MiB:"
            f" the programs of this machine's distribution are too large for it; give it more memory in the lab's"
            f" source (memory_mib in guest_config.py, MEMORY_MIB in qemu_command.py); {image}"
        )
    return image


def hook_library() -> Path:
    """Return the compiled hook: a shared library that is preloaded into the guest's QEMU."""
    return compiled("cpuidhook.so", sorted(HOOK.glob("*.[ch]")), *HOOK_FLAGS)


def barevm() -> Path:
    """Return the compiled program that calls the host's KVM without QEMU."""
    return compiled("barevm", [GUESTS / "host" / "barevm.c"], "-static")


def tcpline() -> Path:
    """Return the compiled program that carries TCP connections over a host's second serial port."""
    return compiled("tcpline", [GUESTS / "host" / "tcpline.c"], "-static")


def made_of(role: str, kernel: Kernel, base: Path, programs: Mapping[str, Path]) -> dict[str, str]:
    """Return the inputs of the initramfs of a "host" or "guest" for `kernel`, without making it."""
    more = {name: kept_digest(path) for name, path in programs.items()}
    return {"base": base.parent.name, "kernel": kernel.digest, "modules": " ".join(_modules(role)), **more}


def _image(kind: Kind, role: str, kernel: Kernel, base: Path, programs: Mapping[str, Path]) -> Path:
    """Return the base with the kernel's modules and `programs` behind it: a new kernel needs only those assembled."""

    def assemble(folder: Path) -> None:
        artifact_gc.make_room()
        initramfs.lay_modules(folder / "root", kernel, _modules(role))
        initramfs.lay_files(folder / "root", programs)
        shutil.copyfile(base, folder / "initrd")
        initramfs.append(folder / "root", folder / "initrd")

    label = "-".join((role, kernel.label, *(Path(name).name for name in programs)))
    return made(kind, label, made_of(role, kernel, base, programs), assemble) / "initrd"


def _base(role: str, keys: Keys, extra: dict[str, Path]) -> Path:
    """Return all of an image but the kernel's modules."""
    files = read_list(GUESTS / "common.list") + read_list(GUESTS / role / "files.list")
    scripts = {"etc/inittab": GUESTS / "inittab", "etc/rc.common": GUESTS / "rc.common", "etc/rc": GUESTS / role / "rc"}
    copies = scripts | extra | {"usr/bin/readout": compiled("readout", [GUESTS / "readout.c"], "-static")}
    inputs = {"keys": keys.digest, "files": " ".join(files)}
    inputs |= {name: kept_digest(path) for name, path in copies.items()}
    inputs |= {name: kept_digest(initramfs.find(name)) for name in files}

    def assemble(folder: Path) -> None:
        initramfs.lay_base(folder / "root", keys, files, copies)
        initramfs.append(folder / "root", folder / "initrd")

    return made(IMAGES, f"{role}-base", inputs, assemble) / "initrd"


def _modules(role: str) -> list[str]:
    return read_list(GUESTS / role / "modules.list")
