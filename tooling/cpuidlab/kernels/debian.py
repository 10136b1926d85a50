"""Fetch the builds of kernels that suites have: choose the newest of a version, unpack it into the cache, pin it."""

import shutil
from pathlib import Path

from cpuidlab.base import artifacts, command
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.paths import cache_dir
from cpuidlab.kernels import aptfetch, builds, kbuild, pins, suites
from cpuidlab.kernels.builds import Build
from cpuidlab.kernels.kernel import Kernel, read_kernel, write_facts
from cpuidlab.kernels.needed_modules import UNPACK
from cpuidlab.kernels.pins import KERNELS
from cpuidlab.kernels.version import series_of

RECIPE = "1"  # raised when _fill makes something else of the same packages


def fetch(base: str, refresh: bool, own: bool = True) -> Kernel:
    """Choose the newest build of `base`, fetch it unless it is in the cache, and pin `base` to it.

    A package list may be a day old, and the build may have left the mirror since. So a fetch that fails is tried once
    more with a fresh list.
    """
    build = _choose(base, 0 if refresh else aptfetch.FRESH_SECONDS, own)
    try:
        folder = _stored(build)
    except LabError:
        newer = _choose(base, 0, own)
        if newer == build:
            raise
        folder = _stored(newer)
    pins.write(_pin(base, own), folder.name)
    return read_kernel(folder)


def pinned(base: str, own: bool = True) -> Kernel | None:
    """Return the kernel that `base` is pinned to; None where there is no pin, or its kernel has left the cache."""
    name = pins.read(_pin(base, own))
    if name is None:
        return None
    try:
        return read_kernel(cache_dir() / KERNELS.name / name)
    except (FileNotFoundError, NotADirectoryError):
        return None


def pinned_newest() -> str | None:
    """Return the series that "newest" is pinned to; None where there is no pin."""
    return pins.read(_pin("newest"))


def newest_series(refresh: bool = False) -> str:
    """Return the newest series, such as "7.3", of which the archive holds a finished build that can boot; pin it.

    Raises LabError where no rolling suite has one.
    """
    known = pinned_newest()
    if known is not None and not refresh:
        return known
    max_age = 0 if refresh else aptfetch.FRESH_SECONDS
    rolling = [row for row in suites.suite_rows() if row.rolling]
    finished = [
        build
        for row in rolling
        for build in builds.builds_in(row, aptfetch.packages(row.suite, max_age))
        if build.lack is None and not build.prerelease
    ]
    if not finished:
        raise LabError("none of the catalogue's rolling suites has a kernel that can boot; name a series, such as 6.12")
    newest = max(finished, key=lambda build: build.order).series
    pins.write(_pin("newest"), newest)
    return newest


def folder_of(build: Build) -> Path:
    """Return the folder where the build lies in the cache; the folder need not exist yet."""
    return cache_dir() / KERNELS.name / f"{_label(build)}-{artifacts.key_of(_inputs(build))}"


def _label(build: Build) -> str:
    """Return the label in the cache. A user's suite has its own: a newer build drops an older one of its label."""
    return f"{build.release}@{build.suite.name}" if build.suite.table else build.release


def _pin(base: str, own: bool = True) -> str:
    """Return the name of a pin: what a suite of the user's table may change the meaning of has a pin for this table."""
    key = suites.own_key("" if base == "newest" else series_of(base)) if own else ""
    return f"{base}@{key}" if key else base


def _choose(base: str, max_age: float, own: bool) -> Build:
    """Return the newest build of `base` that can boot; UsageError that says why where there is none."""
    groups = suites.groups_for(base, series_of(base), own)
    matching: list[Build] = []
    for rows in groups:
        known = [build for row in rows for build in builds.builds_in(row, aptfetch.packages(row.suite, max_age))]
        matching = sorted((build for build in known if build.matches(base)), key=lambda build: build.order)
        if matching:
            break
    if not matching and max_age:
        return _choose(base, 0, own)  # the build may have come to the archive since the list was read
    usable = [build for build in matching if build.lack is None]
    if usable:
        return usable[-1]
    if matching:
        raise UsageError(f"kernel {base} cannot be used: {matching[-1].lack}")
    searched = ", ".join(row.suite.name for rows in groups for row in rows)
    raise UsageError(f"there is no build of kernel {base} in {searched}; 'cpuidlab kernels' lists what there is")


def _inputs(build: Build) -> dict[str, str]:
    inputs = {"packages": " ".join(build.packages), "version": build.version, "recipe": RECIPE}
    return inputs | build.suite.inputs


def _stored(build: Build) -> Path:
    return artifacts.made(KERNELS, _label(build), _inputs(build), lambda into: _fill(into, build))


def _fill(into: Path, build: Build) -> None:
    """Fetch the build's packages and keep vmlinuz and lib/modules/RELEASE of them."""
    unpacked = into / "unpacked"
    aptfetch.fetch(build.suite, dict.fromkeys(build.packages, build.version), unpacked)
    modules = into / "lib/modules" / build.release
    modules.parent.mkdir(parents=True)
    inside = f"lib/modules/{build.release}"
    _first_of(build, unpacked, f"boot/vmlinuz-{build.release}", f"{inside}/vmlinuz", f"usr/{inside}/vmlinuz").rename(
        into / "vmlinuz"
    )
    _first_of(build, unpacked, inside, f"usr/{inside}").rename(modules)
    shutil.rmtree(unpacked)
    _unpack(modules)
    for link in ("build", "source"):
        (modules / link).unlink(missing_ok=True)
    kbuild.depmod(into, build.release)
    write_facts(into, build.release, build.version, build.suite.name)


def _unpack(modules: Path) -> None:
    for suffix, command_line in UNPACK.items():
        packed = sorted(map(str, modules.rglob(f"*.ko{suffix}")))
        if packed:
            command.run([*command_line, *packed], seconds=300)


def _first_of(build: Build, folder: Path, *places: str) -> Path:
    """Return the first path that exists in the folder: suites lay their kernel packages out differently."""
    for place in places:
        if (folder / place).exists():
            return folder / place
    table = build.suite.table or "tooling/kernels.toml"
    raise LabError(f"{' and '.join(build.packages)} hold none of {', '.join(places)}; see the packages in {table}")
