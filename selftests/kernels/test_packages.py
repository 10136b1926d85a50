"""Kernels straight from .deb and .rpm files, which are made here with dpkg-deb and rpmbuild."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.judge import prediction
from cpuidlab.kernels import lookup, packages, vendors
from cpuidlab.kernels.kernel import Kernel
from ownkernel import MODULES, bzimage_bytes, deb, modules, rpm

RHEL = "5.14.0-427.13.1.el9_4.x86_64"
UBUNTU = "5.15.0-91-generic"
SUSE = "6.4.0-150600.21-default"
OWN = "6.1.0-mine"
LOADED = {Path(name).name for name in MODULES} - {"unused.ko"}
PACK = {".xz": ["xz", "-1"], ".zst": ["zstd", "-q", "--rm"], ".gz": ["gzip", "-1"]}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder with the modules of a release, compiled once."""
    made: dict[str, Path] = {}
    return lambda release: made.setdefault(release, modules(tmp_path_factory.mktemp("built"), release))


@pytest.fixture
def put(tmp_path: Path, build: Callable[[str], Path]) -> Callable[..., Path]:
    """Give a function that lays out the files of one more package: an image, and modules of whose path a part fits."""
    number = iter(range(99))

    def lay(release: str, image: str = "", parts: tuple[str, ...] = (), pack: str = "", top: str = "lib") -> Path:
        root = tmp_path / f"root{next(number)}"
        root.mkdir()
        if image:
            (root / image).parent.mkdir(parents=True, exist_ok=True)
            (root / image).write_bytes(bzimage_bytes(f"{release} (me@here) #1 SMP"))
        for name in (name for name in MODULES if any(part in name for part in parts)):
            file = root / top / "modules" / release / "kernel" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((build(release) / name).read_bytes())
            if pack:
                subprocess.run([*PACK[pack], file], check=True)
        if parts:
            (root / top / "modules" / release / "modules.builtin").write_text("")
        return root

    return lay


Put = Callable[..., Path]


def loaded(kernel: Kernel) -> set[str]:
    return {file.name for file in kernel.modules.rglob("*.ko*")}


def test_ubuntus_two_packages_and_the_upstream_version_in_its_configuration(tmp_path: Path, put: Put) -> None:
    image = deb(tmp_path / "image.deb", put(UBUNTU, f"boot/vmlinuz-{UBUNTU}"), "5.15.0-91.101+1")
    rest = put(UBUNTU, parts=("/",))
    (rest / "boot").mkdir()
    (rest / f"boot/config-{UBUNTU}").write_text('CONFIG_VERSION_SIGNATURE="Ubuntu 5.15.0-91.101-generic 5.15.131"\n')
    kernel = lookup.resolve(f"deb:{image},{deb(tmp_path / 'modules.deb', rest, '5.15.0-91.101')}")
    assert (kernel.label, kernel.release, kernel.version) == (f"deb:{UBUNTU}", UBUNTU, "5.15.131")
    assert prediction.predicted(kernel).why.startswith("upstream range")
    assert kernel.vmlinuz.read_bytes() == bzimage_bytes(f"{UBUNTU} (me@here) #1 SMP")
    assert loaded(kernel) == LOADED
    assert "kvm-amd.ko:" in (kernel.modules / "modules.dep").read_text()
    assert not (kernel.vmlinuz.parent / "unpacked").exists()


def test_rhels_three_packages_with_xz_modules(tmp_path: Path, put: Put, build: Callable[[str], Path]) -> None:
    core = rpm(tmp_path / "kernel-core.rpm", put(RHEL, f"lib/modules/{RHEL}/vmlinuz"))
    base = rpm(tmp_path / "kernel-modules-core.rpm", put(RHEL, parts=("arch", "virt/"), pack=".xz"))
    rest = rpm(tmp_path / "kernel-modules.rpm", put(RHEL, parts=("drivers", "fs"), pack=".xz"), payload="w1.xzdio")
    kernel = lookup.resolve(f"rpm:{core},{base},{rest}")
    assert (kernel.label, kernel.version) == (f"rpm:{RHEL}", RHEL)
    assert prediction.predicted(kernel).why.startswith("this vendor rebases KVM")
    assert loaded(kernel) == LOADED
    assert next(kernel.modules.rglob("kvm.ko")).read_bytes() == (build(RHEL) / "arch/x86/kvm/kvm.ko").read_bytes()


@pytest.mark.parametrize(
    ("image", "top", "pack"),
    [
        (f"boot/vmlinuz-{SUSE}", "lib", ".zst"),
        (f"usr/lib/modules/{SUSE}/vmlinuz", "usr/lib", ".zst"),
        (f"boot/vmlinuz-{SUSE}", "usr/lib", ".gz"),
        (f"lib/modules/{SUSE}/vmlinuz", "usr/lib", ""),
    ],
)
def test_suses_package_in_each_layout(image: str, top: str, pack: str, tmp_path: Path, put: Put) -> None:
    root = put(SUSE, image, ("/",), pack, top)
    (root / "boot").mkdir(exist_ok=True)
    (root / "boot/vmlinuz-none").symlink_to("/etc/hostname")  # a link out of the package is not followed
    kernel = lookup.resolve(f"rpm:{rpm(tmp_path / 'kernel-default.rpm', root, payload='w3.zstdio')}")
    assert kernel.release == SUSE
    assert loaded(kernel) == LOADED


def test_the_bytes_of_the_packages_are_the_kernel(tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    image = deb(tmp_path / "a.deb", put(OWN, f"boot/vmlinuz-{OWN}"))
    rest = deb(tmp_path / "b.deb", put(OWN, parts=("/",)))
    first = lookup.resolve(f"deb:{image},{rest}")
    with monkeypatch.context() as without_programs:
        without_programs.setenv("PATH", "")
        assert lookup.resolve(f"deb:{rest},{image}") == first
    (tmp_path / "elsewhere").mkdir()
    image = image.rename(tmp_path / "elsewhere/a.deb")
    assert lookup.resolve(f"deb:{image},{rest}").digest == first.digest
    another = deb(tmp_path / "c.deb", put(OWN, parts=("/",), pack=".gz"))
    second = lookup.resolve(f"deb:{image},{another}")
    assert second.digest != first.digest
    assert re.fullmatch(f"deb:{OWN}-[0-9a-f]{{4}}", second.label)
    assert second.spec == f"deb:{another},{image}"  # in the order of their paths


def refused(spec: str) -> str:
    """The one line for a spec that cannot be used."""
    with pytest.raises(UsageError) as told:
        lookup.resolve(spec)
    line = str(told.value)
    assert line.startswith(f"host '{spec}': ") and "\n" not in line
    return line


@pytest.mark.parametrize(
    ("kind", "release", "given", "line"),
    [
        ("deb", UBUNTU, ["image"], rf"no package has modules: .* usually linux-modules-{UBUNTU} .*\(Ubuntu\)"),
        ("deb", UBUNTU, ["image", "virt"], rf"the kernel lacks kvm_amd: .* linux-modules-{UBUNTU} or .*\(Ubuntu\)"),
        ("deb", UBUNTU, ["/"], rf"no package has .*\(vmlinuz\): .* usually linux-image-{UBUNTU} "),
        (
            "rpm",
            RHEL,
            ["image", "drivers"],
            f"lacks kvm_amd: a package is missing, usually kernel-modules-core-{RHEL} ",
        ),
        ("rpm", RHEL, ["/"], f"usually kernel-core-{RHEL} "),
        ("rpm", RHEL, ["image", "kvm", "virt/"], f"lacks virtio_pci, virtio_net, virtio_rng: .*kernel-modules-{RHEL} "),
        ("rpm", SUSE, ["image", "arch"], r"lacks virtio_pci, .*usually kernel-default \(SUSE\)"),
        ("deb", OWN, ["/"], f"usually linux-image-{OWN}$"),
        ("rpm", OWN, ["image"], "usually kernel-modules-core, kernel-modules or kernel$"),
        ("deb", OWN, [], r"neither a kernel image \(vmlinuz\) nor modules"),
    ],
)
def test_a_missing_package_is_named(kind: str, release: str, given: list[str], line: str, put: Put) -> None:
    parts = tuple(part for part in given if part != "image")
    root = put(release, f"boot/vmlinuz-{release}" if "image" in given else "", parts)
    file = {"deb": deb, "rpm": rpm}[kind](root.with_suffix(f".{kind}"), root)
    assert re.search(line, refused(f"{kind}:{file}"))


def test_without_a_list_of_built_in_modules_none_is_taken_for_built_in(put: Put) -> None:
    root = put(OWN, f"boot/vmlinuz-{OWN}", ("virt", "fs"))
    next(root.rglob("modules.builtin")).unlink()
    assert "the kernel lacks kvm_amd: " in refused(f"deb:{deb(root.with_suffix('.deb'), root)}")


@pytest.mark.parametrize(("kind", "arch"), [("deb", "arm64"), ("rpm", "aarch64")])
def test_a_package_for_another_machine(kind: str, arch: str, tmp_path: Path, put: Put) -> None:
    file = {"deb": deb, "rpm": rpm}[kind](tmp_path / f"a.{kind}", put(OWN, f"boot/vmlinuz-{OWN}"), arch=arch)
    assert refused(f"{kind}:{file}").endswith(f"{file} is for {arch}, and the hosts are x86-64")


@pytest.mark.parametrize("kind", ["deb", "rpm"])
@pytest.mark.parametrize("size", [100, -500])
def test_a_package_that_is_cut_short(kind: str, size: int, tmp_path: Path, put: Put) -> None:
    file = {"deb": deb, "rpm": rpm}[kind](tmp_path / f"a.{kind}", put(OWN, f"boot/vmlinuz-{OWN}", ("/",)))
    file.write_bytes(file.read_bytes()[:size])
    assert f"{file} is cut short or damaged: " in refused(f"{kind}:{file}")


def test_a_byte_of_an_rpm_that_no_compression_guards(tmp_path: Path, put: Put) -> None:
    root = put(OWN, f"boot/vmlinuz-{OWN}", ("/",))
    file = rpm(tmp_path / "a.rpm", root, payload="w.ufdio")
    file.write_bytes(file.read_bytes().replace(b"(me@here)", b"(he@here)"))
    assert refused(f"rpm:{file}").endswith(
        f"{file} is cut short or damaged: rpmkeys failed with exit code 1: {file}: DIGESTS NOT OK"
    )


def test_what_is_no_package_at_all(tmp_path: Path) -> None:
    (tmp_path / "text.rpm").write_text("<html>Not Found</html>")
    (tmp_path / "empty.deb").touch()
    (tmp_path / "folder.deb").mkdir()
    assert refused(f"rpm:{tmp_path}/text.rpm").endswith("text.rpm is no rpm package")
    assert refused(f"deb:{tmp_path}/empty.deb").endswith("empty.deb is no deb package")
    assert refused(f"deb:{tmp_path}/folder.deb").endswith(f"there is no file {tmp_path}/folder.deb")
    assert refused(f"deb:{tmp_path}/*.deb").endswith("*.deb; * and ? stand for themselves here")


def test_two_kernels_in_one_list(tmp_path: Path, put: Put) -> None:
    files = [deb(tmp_path / f"{name}.deb", put(name, f"boot/vmlinuz-{name}"), "1") for name in (OWN, UBUNTU)]
    line = refused(f"deb:{files[1]},{files[0]}")
    assert line.endswith(f"the packages are of 2 kernels, and a host has one: {UBUNTU}, {OWN}")


def test_packages_of_two_builds_of_one_release(tmp_path: Path, put: Put) -> None:
    image = deb(tmp_path / "a.deb", put(OWN, f"boot/vmlinuz-{OWN}"), "6.1.192-1")
    rest = deb(tmp_path / "b.deb", put(OWN, parts=("/",)), "6.1.192-2")
    firmware = deb(tmp_path / "c.deb", put(OWN), "2026", "all")
    line = refused(f"deb:{image},{rest},{firmware}")
    assert line.endswith(
        "the packages are of 2 builds, and a host has one kernel: a.deb is 6.1.192-1, b.deb is 6.1.192-2"
    )


def test_no_database_of_packages_is_made(tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    file = rpm(tmp_path / "a.rpm", put(OWN, f"boot/vmlinuz-{OWN}", ("/",)))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert loaded(lookup.resolve(f"rpm:{file}")) == LOADED
    assert not list((tmp_path / "home").iterdir())


def test_each_table_is_of_a_vendor_and_has_both_keys() -> None:
    rows = packages.names_of_packages()
    assert set(rows) <= {vendor.name for vendor in vendors.vendors()} | {"deb", "rpm"}
    for row in rows.values():
        assert set(row) == {"image", "modules"}
        assert all(text.format(release="1.2.3") for text in row.values())
