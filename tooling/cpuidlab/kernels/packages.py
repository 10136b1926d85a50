"""Use a kernel straight from its packages. They are unpacked in the cache, and what a host boots is kept.

The kernel is known by the bytes of its packages, wherever they lie.
"""

import re
import shutil
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

from cpuidlab.base import artifacts
from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import TOOLING
from cpuidlab.kernels import bzimage, custom, needed_modules, package_files, vendors
from cpuidlab.kernels.custom import Source
from cpuidlab.kernels.host_spec import HostSpec, Kind
from cpuidlab.kernels.kernel import Kernel, read_kernel, write_facts
from cpuidlab.kernels.pins import KERNELS

RECIPE = "1"  # raised when _fill makes something else of the same packages
# Where Ubuntu tells the upstream version, and nowhere else: ="Ubuntu 5.15.0-91.101-generic 5.15.131"
_SIGNATURE = re.compile(r'(?m)^CONFIG_VERSION_SIGNATURE=".* (\d+\.\d+\.\d+)"$')


def resolve(spec: HostSpec) -> Kernel:
    """Return the kernel of a spec of kind "deb" or "rpm"; UsageError in one line where it cannot be tested."""
    with custom.naming(spec):
        for file in spec.paths:
            if not file.is_file():
                hint = "; * and ? stand for themselves here" if set(file.name) & set("*?") else ""
                raise UsageError(f"there is no file {file}{hint}")
        digests = " ".join(sorted(map(artifacts.file_digest, spec.paths)))
        inputs = {"packages": digests, "modules": artifacts.file_digest(needed_modules.LISTED), "recipe": RECIPE}
    folder = artifacts.made(KERNELS, spec.label, inputs, partial(_fill, spec))
    kernel = read_kernel(folder, spec.absolute)
    return replace(kernel, label=custom.free_label(f"{spec.kind}:{kernel.release}", spec.location))


def _fill(spec: HostSpec, into: Path) -> None:
    with custom.naming(spec):
        packages = [package_files.read(spec.kind, file) for file in spec.paths]
        package_files.check_one_build(packages)
        root, plain = into / "unpacked", into / "plain"
        for folder in (root, plain):
            folder.mkdir()
        for package in packages:
            package_files.unpack(package, root)
        source = _source(spec.kind, root)
        release = source.banner.release
        needed = needed_modules.find(source.modules, release, plain)
        custom.lay_out(into, source, needed.values())
        write_facts(into, release, _version_by_ubuntu(root / f"boot/config-{release}") or source.banner.version)
        for folder in (root, plain):
            shutil.rmtree(folder)


def _source(kind: Kind, root: Path) -> Source:
    """Find the image and the modules below `root`; UsageError where these are not of one kernel, or one is missing."""
    modules = root / "lib/modules"
    if (root / "usr/lib/modules").is_dir():
        shutil.copytree(root / "usr/lib/modules", modules, dirs_exist_ok=True)
    images = {file: bzimage.banner(file) for file in [*root.glob("boot/vmlinuz-*"), *modules.glob("*/vmlinuz")]}
    releases = {banner.release for banner in images.values()} | {folder.name for folder in modules.glob("*")}
    if not releases:
        raise UsageError("the packages hold neither a kernel image (vmlinuz) nor modules")
    if len(releases) > 1:
        raise UsageError(
            f"the packages are of {len(releases)} kernels, and a host has one: {', '.join(sorted(releases))}"
        )
    (release,) = releases
    if not images:
        raise UsageError(f"no package has the kernel image (vmlinuz): {_to_add(kind, release, 'image')}")
    found = custom.modules_in(modules / release, _to_add(kind, release, "modules"))
    if not found.files and found.builtin is None:
        raise UsageError(f"no package has modules: {found.mend}")
    image, banner = next(iter(images.items()))
    return Source(image, banner, replace(found, builtin=found.builtin or frozenset()), strip=False)


def names_of_packages() -> dict[str, dict[str, str]]:
    """Return kernel-packages.toml, whose head explains it."""
    return tomllib.loads((TOOLING / "kernel-packages.toml").read_text())


def _to_add(kind: Kind, release: str, what: str) -> str:
    """Say which package usually has the "image" or the "modules" of this maker's kernels."""
    vendor, rows = vendors.vendor_of(release), names_of_packages()
    by = vendor.name if vendor and vendor.name in rows else ""
    names = rows[by or kind][what].format(release=release)
    return f"a package is missing, usually {names}{f' ({by})' if by else ''}"


def _version_by_ubuntu(config: Path) -> str | None:
    """Return the upstream version in Ubuntu's configuration of the kernel; None for another vendor's."""
    found = _SIGNATURE.search(config.read_text()) if config.exists() else None
    return found[1] if found else None
