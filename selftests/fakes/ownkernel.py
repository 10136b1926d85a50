"""Kernels of the user's own, made up here: a bzImage's header, and real ELF files as modules, also in packages."""

import struct
import subprocess
from pathlib import Path

RELEASE = "6.1.0-mine"
BANNER = f"{RELEASE} (me@here) #1 SMP"
MODULES = {  # name of the file in a tree: what it depends on
    "arch/x86/kvm/kvm-amd.ko": "kvm",
    "arch/x86/kvm/kvm.ko": "irqbypass",
    "virt/lib/irqbypass.ko": "",
    "drivers/virtio/virtio_pci.ko": "",
    "drivers/net/virtio_net.ko": "",
    "drivers/char/hw_random/virtio-rng.ko": "",
    "fs/unused.ko": "",
}
_CONTROL = """\
Package: {name}
Version: {version}
Architecture: {arch}
Maintainer: me
Description: a kernel
"""
_SPEC = """\
%define __os_install_post %{{nil}}
%define _build_id_links none
%define _binary_payload {payload}
Name: {name}
Version: {version}
Release: 1
Summary: a kernel
License: GPL
AutoReqProv: no
%description
%install
mkdir -p %{{buildroot}}
cp -a {root}/. %{{buildroot}}
%files
/*
"""


def bzimage_bytes(text: str = BANNER, flags: int = 1, protocol: int = 0x20F) -> bytes:
    data = bytearray(0x600)
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", data, 0x206, protocol)
    struct.pack_into("<H", data, 0x20E, 0x200 if text else 0)
    struct.pack_into("<H", data, 0x236, flags)
    data[0x400 : 0x400 + len(text)] = text.encode()
    return bytes(data)


def module(file: Path, depends: str, release: str = RELEASE) -> None:
    """What modinfo, strip and depmod take for a module: an object file with a .modinfo section."""
    file.parent.mkdir(parents=True, exist_ok=True)
    words = [f"name={file.stem.replace('-', '_')}", f"depends={depends}"]
    words += [f"vermagic={release} SMP mod_unload "] if release else []
    asm = '.section .modinfo,"a"\n' + "".join(f'.asciz "{word}"\n' for word in words)
    subprocess.run(["gcc", "-c", "-x", "assembler", "-o", file, "-"], input=asm, text=True, check=True)


def modules(folder: Path, release: str = RELEASE) -> Path:
    """All of MODULES, as files below the folder."""
    for name, depends in MODULES.items():
        module(folder / name, depends, release)
    return folder


def deb(file: Path, root: Path, version: str = "1-1", arch: str = "amd64") -> Path:
    """A Debian package of the files below `root`, which gets one folder more."""
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(_CONTROL.format(name="linux-image", version=version, arch=arch))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", root, file], check=True, capture_output=True)
    return file


def rpm(file: Path, root: Path, version: str = "1", arch: str = "x86_64", payload: str = "w1.gzdio") -> Path:
    """An rpm of the files below `root`."""
    top = file.with_suffix(".build")
    top.mkdir()
    (top / "spec").write_text(_SPEC.format(name="kernel", version=version, root=root, payload=payload))
    defines = [f"--define=_topdir {top}", f"--define=_dbpath {top}/db", f"--target={arch}"]
    subprocess.run(["rpmbuild", "-bb", *defines, top / "spec"], check=True, capture_output=True)
    return next(top.rglob("*.rpm")).rename(file)
