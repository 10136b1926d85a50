"""Fetch Debian's builds of kernels: choose the newest build of a version, unpack it into the cache, pin it."""

import shutil
from pathlib import Path

from cpuidlab.base import artifacts
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.paths import cache_dir
from cpuidlab.kernels import aptfetch, builds, kbuild, pins
from cpuidlab.kernels.builds import Build
from cpuidlab.kernels.kernel import Kernel, read_kernel, write_facts
from cpuidlab.kernels.pins import KERNELS
from cpuidlab.kernels.version import series_of

RECIPE = "1"  # raised when _fill makes something else of the same packages


def fetch(base: str, refresh: bool) -> Kernel:
    """Choose the newest build of `base`, fetch it unless it is in the cache, and pin `base` to it.

    A package list may be a day old, and the build may have left the mirror since. So a fetch that fails is tried once
    more with a fresh list.
    """
    build = _choose(base, 0 if refresh else aptfetch.FRESH_SECONDS)
    try:
        folder = _stored(build)
    except LabError:
        newer = _choose(base, 0)
        if newer == build:
            raise
        folder = _stored(newer)
    pins.write(base, folder.name)
    return read_kernel(folder)


def pinned(base: str) -> Kernel | None:
    """Return the kernel that `base` is pinned to; None where there is no pin, or its kernel has left the cache."""
    name = pins.read(base)
    if name is None:
        return None
    try:
        return read_kernel(cache_dir() / KERNELS.name / name)
    except (FileNotFoundError, NotADirectoryError):
        return None


def newest_series(refresh: bool = False) -> str:
    """Return the newest series, such as "7.3", of which the archive holds a finished build that can boot; pin it.

    Raises LabError where no rolling suite has one.
    """
    known = pins.read("newest")
    if known is not None and not refresh:
        return known
    max_age = 0 if refresh else aptfetch.FRESH_SECONDS
    rolling = [row for row in builds.suite_rows() if row.rolling]
    finished = [
        build
        for row in rolling
        for build in builds.builds_in(row, aptfetch.packages(row.suite, max_age))
        if build.lack is None and not build.prerelease
    ]
    if not finished:
        raise LabError("none of the catalogue's rolling suites has a kernel that can boot; name a series, such as 6.12")
    newest = max(finished, key=lambda build: build.order).series
    pins.write("newest", newest)
    return newest


def folder_of(build: Build) -> Path:
    """Return the folder where the build lies in the cache; the folder need not exist yet."""
    return cache_dir() / KERNELS.name / f"{build.release}-{artifacts.key_of(_inputs(build))}"


def _choose(base: str, max_age: float) -> Build:
    """Return the newest build of `base` that can boot; UsageError that says why where there is none."""
    rows = builds.rows_for(series_of(base))
    known = [build for row in rows for build in builds.builds_in(row, aptfetch.packages(row.suite, max_age))]
    matching = sorted((build for build in known if build.matches(base)), key=lambda build: build.order)
    if not matching and max_age:
        return _choose(base, 0)  # the build may have come to the archive since the list was read
    usable = [build for build in matching if build.lack is None]
    if usable:
        return usable[-1]
    if matching:
        raise UsageError(f"kernel {base} cannot be used: {matching[-1].lack}")
    suites = ", ".join(row.suite.name for row in rows)
    raise UsageError(f"there is no Debian build of kernel {base} in {suites}; 'cpuidlab kernels' lists what there is")


def _inputs(build: Build) -> dict[str, str]:
    return {"packages": " ".join(build.packages), "version": build.version, "recipe": RECIPE}


def _stored(build: Build) -> Path:
    return artifacts.made(KERNELS, build.release, _inputs(build), lambda into: _fill(into, build))


def _fill(into: Path, build: Build) -> None:
    """Fetch the build's packages and keep vmlinuz and lib/modules/RELEASE of them."""
    unpacked = into / "unpacked"
    aptfetch.fetch(build.suite, dict.fromkeys(build.packages, build.version), unpacked)
    modules = into / "lib/modules" / build.release
    modules.parent.mkdir(parents=True)
    _first_of(unpacked / "lib/modules" / build.release, unpacked / "usr/lib/modules" / build.release).rename(modules)
    _first_of(unpacked / f"boot/vmlinuz-{build.release}", modules / "vmlinuz").rename(into / "vmlinuz")
    shutil.rmtree(unpacked)
    for link in ("build", "source"):
        (modules / link).unlink(missing_ok=True)
    kbuild.depmod(into, build.release)
    write_facts(into, build.release, build.version, build.suite.name)


def _first_of(*places: Path) -> Path:
    """Return the first path that exists: suites lay their kernel packages out differently."""
    for path in places:
        if path.exists():
            return path
    names = ", ".join(str(path) for path in places)
    raise LabError(f"the kernel packages hold none of {names}: their layout is new, see tooling/kernels.toml")
