"""Kernels of the user's own: a bzImage's header, and trees and images made up here, with real ELF files as modules."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.kernels import bzimage, custom, lookup
from ownkernel import MODULES, RELEASE, bzimage_bytes, module, modules

PACK = (["true"], ["xz"], ["zstd", "-q", "--rm"], ["gzip"])  # what distributions do with modules


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return modules(tmp_path_factory.mktemp("built"))


def a_tree(folder: Path, built: Path, builtin: Mapping[str, str] | None = None) -> Path:
    """A tree like one that make has left behind; modules in `builtin` are none."""
    folder.mkdir(parents=True)
    loadable = [name for name in MODULES if name not in (builtin or {})]
    for name in loadable:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((built / name).read_bytes())
    (folder / "modules.order").write_text("".join(f"kernel/{name}\n" for name in loadable))
    (folder / "modules.builtin").write_text("".join(f"kernel/{name}\n" for name in builtin or {}))
    (folder / custom.IMAGE).parent.mkdir(parents=True)
    (folder / custom.IMAGE).write_bytes(bzimage_bytes())
    config = custom.CONFIG.read_text().replace("=m", "=y")
    (folder / ".config").write_text(config)
    return folder


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.rglob("*.ko*")}


@pytest.fixture
def tree(tmp_path: Path, built: Path) -> Path:
    return a_tree(tmp_path / "linux-6.1", built)


def test_banners(tmp_path: Path) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(bzimage_bytes())
    assert (bzimage.banner(image).release, bzimage.banner(image).version) == (RELEASE, RELEASE)
    image.write_bytes(bzimage_bytes("6.1.0-56-cloud-amd64 (a@b) #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)"))
    assert bzimage.banner(image).version == "6.1.192-2"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "no bzImage for x86"),
        (bytes(4096), "no bzImage for x86"),
        (bzimage_bytes(flags=0), "no 64-bit kernel"),
        (bzimage_bytes(protocol=0x204), "no 64-bit kernel"),
        (bzimage_bytes(text=""), "does not tell its version"),
    ],
)
def test_what_is_no_image(data: bytes, line: str, tree: Path) -> None:
    (tree / custom.IMAGE).write_bytes(data)
    with pytest.raises(UsageError, match=f"host 'tree:{tree}': .*{line}"):
        lookup.resolve(f"tree:{tree}")


def test_a_tree_gives_its_image_and_just_the_modules_that_a_host_loads(tree: Path) -> None:
    kernel = lookup.resolve(f"tree:{tree}")
    assert (kernel.label, kernel.release, kernel.spec) == ("tree:linux-6.1", RELEASE, f"tree:{tree}")
    assert kernel.vmlinuz.read_bytes() == bzimage_bytes()
    assert names(kernel.modules) == {Path(name).name for name in MODULES} - {"unused.ko"}
    assert "kvm-amd.ko:" in (kernel.modules / "modules.dep").read_text()


@pytest.mark.parametrize("form", ["{}", "kernel/{}", "{}.o"])
def test_modules_order_has_had_several_forms(form: str, tree: Path) -> None:
    order = "".join(form.format(name).replace(".ko.o", ".o") + "\n" for name in MODULES)
    (tree / "modules.order").write_text(order)
    assert len(names(lookup.resolve(f"tree:{tree}").modules)) == len(MODULES) - 1


def test_an_unchanged_tree_is_the_same_kernel_and_a_rebuilt_one_is_not(tree: Path) -> None:
    first = lookup.resolve(f"tree:{tree}").digest
    module(tree / "fs/unused.ko", "", "other")
    (tree / custom.IMAGE).touch()
    assert lookup.resolve(f"tree:{tree}").digest == first
    with (tree / "virt/lib/irqbypass.ko").open("ab") as file:
        file.write(b"changed")
    second = lookup.resolve(f"tree:{tree}").digest
    (tree / custom.IMAGE).write_bytes(bzimage_bytes(f"{RELEASE} (me@here) #2 SMP"))
    assert len({first, second, lookup.resolve(f"tree:{tree}").digest}) == 3


def test_a_kernel_with_all_built_in(tmp_path: Path, built: Path) -> None:
    kernel = lookup.resolve(f"tree:{a_tree(tmp_path / 't', built, builtin=MODULES)}")
    assert names(kernel.modules) == set()
    assert (kernel.modules / "modules.dep").read_text() == ""


def test_two_trees_of_one_name_are_told_apart(tmp_path: Path, built: Path) -> None:
    one, two = (a_tree(tmp_path / folder / "linux", built, builtin=MODULES) for folder in "ab")
    labels = [lookup.resolve(f"tree:{folder}").label for folder in (one, two, one)]
    assert labels[0] == labels[2] == "tree:linux"
    assert re.fullmatch("tree:linux-[0-9a-f]{4}", labels[1])
    one.rename(tmp_path / "gone")
    assert lookup.resolve(f"tree:{two}").label == "tree:linux"


@pytest.mark.parametrize("given", ["lib/modules", f"lib/modules/{RELEASE}"])
def test_an_image_with_its_modules_or_their_parent(given: str, tmp_path: Path, built: Path) -> None:
    folder = tmp_path / "lib/modules" / RELEASE
    for number, name in enumerate(MODULES):
        file = folder / "kernel" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((built / name).read_bytes())
        subprocess.run([*PACK[number % len(PACK)], file], check=True)
    (tmp_path / "bz").write_bytes(bzimage_bytes())
    kernel = lookup.resolve(f"image:{tmp_path}/bz,{tmp_path}/{given}")
    assert kernel.label == f"image:{RELEASE}"
    assert names(kernel.modules) == {Path(name).name for name in MODULES} - {"unused.ko"}
    copy, original = (next(root.rglob("kvm.ko")) for root in (kernel.modules, built))
    assert copy.read_bytes() == original.read_bytes()


def break_tree(tree: Path, how: str) -> None:
    if how == "image":
        (tree / custom.IMAGE).unlink()
    elif how == "module":
        (tree / "arch/x86/kvm/kvm.ko").unlink()
    elif how == "release":
        module(tree / "arch/x86/kvm/kvm.ko", "irqbypass", "6.1.0-older")
    elif how == "folder":
        tree.rename(tree.with_name("elsewhere"))
    elif how == "nameless":
        module(tree / "arch/x86/kvm/kvm.ko", "irqbypass", "")
    elif how == "garbage":
        (tree / "arch/x86/kvm/kvm.ko").write_text("no module")
    elif how == "unreadable":
        (tree / custom.IMAGE).unlink()
        (tree / custom.IMAGE).mkdir()
    elif how == "signed":
        with (tree / ".config").open("a") as file:
            file.write("CONFIG_MODULE_SIG_FORCE=y\n")
    else:
        file = tree / ("modules.order" if how.endswith(".ko") else ".config")
        file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if how not in line))


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("folder", "there is no folder"),
        ("image", "holds no arch/x86/boot/bzImage; build one there for x86-64: make bzImage modules"),
        ("module", r"kvm\.ko is not built: make bzImage modules"),
        ("release", r"kvm\.ko is of 6\.1\.0-older, the image is of 6\.1\.0-mine"),
        ("nameless", r"kvm\.ko is of no release at all"),
        ("garbage", "modinfo failed"),
        ("unreadable", "cannot read .*bzImage: Is a directory"),
        ("kvm-amd.ko", r"the kernel lacks kvm_amd: set it in \.config"),
        ("irqbypass.ko", "the kernel lacks irqbypass"),
        ("virtio_net.ko", "the kernel lacks virtio_net"),
        ("CONFIG_DEVTMPFS", r"built without CONFIG_DEVTMPFS; .*merge_config\.sh"),
        ("signed", "loads signed modules only.*make modules_install"),
    ],
)
def test_a_tree_that_cannot_be_tested_is_one_line(how: str, line: str, tree: Path) -> None:
    break_tree(tree, how)
    with pytest.raises(UsageError, match=f"host 'tree:{tree}': .*{line}") as told:
        lookup.resolve(f"tree:{tree}")
    assert "\n" not in str(told.value)


def test_an_image_without_its_modules(tmp_path: Path, tree: Path) -> None:
    (tmp_path / "empty").mkdir()
    image = tree / custom.IMAGE
    with pytest.raises(UsageError, match=f"holds neither modules nor a folder {RELEASE}"):
        lookup.resolve(f"image:{image},{tmp_path}/empty")
    with pytest.raises(UsageError, match="there is no folder /no"):
        lookup.resolve(f"image:{image},/no")
    with pytest.raises(UsageError, match="cannot read /no: No such file"):
        lookup.resolve(f"image:/no,{tree}")
