"""The images: what is in the hash of each, what is put in, and that the same inputs give the same bytes."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cpuidlab.base import artifact_gc
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.paths import GUESTS
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.rig import compiled, images, initramfs
from cpuidlab.rig.images import check_room
from cpuidlab.rig.keys import Keys

MIB = 2**20
RELEASE = "6.1.0-9-amd64"


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(artifact_gc, "make_room", lambda *_: None)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("host_key", "client_key.pub"):
        (folder / name).write_text(f"{name}\n")
    return Keys(folder)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    modules = tmp_path / "lib/modules" / RELEASE
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("kernel/net/virtio_net.ko.xz: kernel/virtio.ko\nkernel/kvm-amd.ko:\n")
    return Kernel("6.1", "6.1", RELEASE, "6.1.27-1", "bookworm", Path("/vmlinuz"), modules, "digest")


@pytest.fixture
def base_of(monkeypatch: pytest.MonkeyPatch, keys: Keys, tmp_path: Path) -> Path:
    """The guests' files; the base of an image only lists what would have been put into it."""
    guests = shutil.copytree(GUESTS, tmp_path / "guests")
    monkeypatch.setattr(images, "GUESTS", guests)
    monkeypatch.setattr(images, "compiled", lambda name, sources, *_: sources[0])
    monkeypatch.setattr(initramfs, "find", lambda name: guests / "common.list")
    monkeypatch.setattr(initramfs, "lay_base", lambda root, *_: root.mkdir())
    monkeypatch.setattr(initramfs, "append", lambda _, image: image.write_bytes(b"base"))
    return guests


@pytest.mark.parametrize("file", ["host/rc", "rc.common", "inittab", "readout.c", "host/files.list", "common.list"])
def test_each_file_of_a_base_makes_another_base(base_of: Path, keys: Keys, file: str) -> None:
    before = images._base("host", keys, {})
    assert images._base("host", keys, {}) == before
    with (base_of / file).open("a") as opened:
        opened.write("another-program\n")
    assert images._base("host", keys, {}) != before


def test_other_keys_and_another_hook_make_another_base(base_of: Path, keys: Keys, tmp_path: Path) -> None:
    hook = tmp_path / "hook.so"
    hook.write_bytes(b"one")
    first = images._base("host", keys, {images.HOOK_IN_HOST: hook})
    (keys.folder / "client_key.pub").write_text("another\n")
    second = images._base("host", keys, {images.HOOK_IN_HOST: hook})
    hook.write_bytes(b"two")
    assert len({first, second, images._base("host", keys, {images.HOOK_IN_HOST: hook})}) == 3


def test_each_source_of_the_hook_makes_another_hook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = shutil.copytree(images.HOOK, tmp_path / "hook")
    monkeypatch.setattr(images, "HOOK", sources)
    monkeypatch.setattr(compiled, "run", lambda words, **_: Path(words[words.index("-o") + 1]).touch())
    libraries = {images.hook_library()}
    for number, source in enumerate(sorted(sources.iterdir()), start=2):
        with source.open("a") as file:
            file.write("/* another */\n")
        libraries.add(images.hook_library())
        assert len(libraries) == number, source


def test_the_hook_shows_qemu_its_ioctl_alone() -> None:
    printed = subprocess.run(
        ["nm", "--dynamic", "--defined-only", images.hook_library()], check=True, capture_output=True, text=True
    ).stdout
    assert [line.split()[-1] for line in printed.splitlines()] == ["ioctl"]


def test_the_hook_loads_under_a_glibc_of_2018() -> None:
    printed = subprocess.run(
        ["objdump", "--dynamic-syms", images.hook_library()], check=True, capture_output=True, text=True
    ).stdout
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", printed)}
    assert (2, 2, 5) in versions
    assert max(versions) <= (2, 28), "add what is newer to tooling/hook/old_glibc.h"


def test_an_image_is_the_base_with_the_modules_behind_it(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, tmp_path: Path
) -> None:
    base = tmp_path / "images/host-base-0/initrd"
    base.parent.mkdir(parents=True)
    base.write_bytes(b"base" * 128)
    asked: list[str] = []
    run = initramfs.run

    def only_pack(words: list[str], **how: Any) -> str:
        if words[0] == "sh":
            return run(words, **how)
        asked.extend(words)
        return ""

    monkeypatch.setattr(initramfs, "run", only_pack)
    image = images.host_image(kernel, base, {})
    assert image.read_bytes().startswith(b"base" * 128 + b"070701")
    (tmp_path / "line").write_text("a program")
    more = images.host_image(kernel, base, {"usr/bin/line": tmp_path / "line"})
    assert b"usr/bin/line" in more.read_bytes() and b"usr/bin/line" not in image.read_bytes()
    assert more.parent.name.startswith(f"host-{kernel.label}-line-")  # neither makes the other stale
    del asked[len(asked) // 2 :]
    assert [path.name for path in image.parent.iterdir()] == ["initrd"]
    # kvm-amd is a file, virtio_pci and virtio_rng are built in
    assert asked[asked.index("-m") + 1 : asked.index("depmod")] == ["kvm-amd", "virtio_net"]
    assert asked[-1] == RELEASE


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    for image, when in (("a", 0), ("b", 1)):
        root = tmp_path / f"root-{image}"
        for name in ("etc/rc", "bin/sh", "etc/passwd")[:: -1 if when else 1]:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name)
            (root / name).chmod(0o755)
            os.utime(root / name, (when, when))
        initramfs.append(root, tmp_path / image)
        assert not root.exists()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with (tmp_path / "a").open("rb") as archive:
        listed = subprocess.run(["cpio", "-it", "--quiet"], stdin=archive, capture_output=True, check=True).stdout
    assert listed.decode().split() == ["bin", "bin/sh", "etc", "etc/passwd", "etc/rc"]


def test_a_base_has_accounts_keys_and_busyboxs_applets(
    monkeypatch: pytest.MonkeyPatch, keys: Keys, tmp_path: Path
) -> None:
    monkeypatch.setattr(initramfs, "run", lambda words, **_: "bin/sh\nsbin/init\nbin/busybox\n")
    (tmp_path / "rc").write_text("#!/bin/sh\n")
    root = tmp_path / "root"
    initramfs.lay_base(root, keys, [], {"etc/rc": tmp_path / "rc"})
    assert (root / "etc/dropbear/host_key").read_text() == "host_key\n"
    assert (root / "root/.ssh/authorized_keys").read_text() == "client_key.pub\n"
    modes = {name: (root / name).stat().st_mode & 0o777 for name in ("root/.ssh", "etc/dropbear/host_key")}
    assert modes == {"root/.ssh": 0o700, "etc/dropbear/host_key": 0o600}
    assert (root / "init").readlink() == Path("sbin/init")
    assert (root / "sbin/init").readlink() == Path("/bin/busybox")
    assert not (root / "bin/busybox").exists()
    assert (root / "etc/rc").read_text() == "#!/bin/sh\n"


def test_modules_land_where_their_kernel_looks(monkeypatch: pytest.MonkeyPatch, kernel: Kernel, tmp_path: Path) -> None:
    root = tmp_path / "root"

    def run(words: list[str], **_: object) -> str:
        if "-m" in words:  # as dracut-install does it with another --kerneldir
            stray = root / str(kernel.modules).lstrip("/")
            stray.mkdir(parents=True)
            (stray / "kvm-amd.ko").touch()
        return ""

    monkeypatch.setattr(initramfs, "run", run)
    initramfs.lay_modules(root, kernel, ["kvm-amd"])
    assert (root / "lib/modules" / RELEASE / "kvm-amd.ko").is_file()


def test_what_is_not_installed_is_named() -> None:
    assert initramfs.find("sh").name == "sh"
    with pytest.raises(UsageError, match="no-such-program is not installed, and the images need it"):
        initramfs.find("no-such-program")


def test_an_image_must_fit_into_its_machine(tmp_path: Path) -> None:
    image = tmp_path / "initrd"
    with image.open("wb") as file:
        file.truncate(50 * MIB)  # the guest's on Debian 13: 256 MiB were too little for it, which was seen
    assert check_room("guest", image, 384) == image
    with pytest.raises(LabError, match="the guest's initramfs has 50 MiB and a guest of 256 MiB can unpack 43 MiB"):
        check_room("guest", image, 256)
