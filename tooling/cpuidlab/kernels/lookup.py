"""From a host spec to a bootable kernel in the cache: vmlinuz and modules, fetched once and then pinned."""

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cpuidlab.base import artifacts
from cpuidlab.base.atomic import write_atomically
from cpuidlab.base.errors import FULL_DISK, LabError, UsageError
from cpuidlab.base.paths import cache_dir
from cpuidlab.base.progress import say
from cpuidlab.kernels import aptfetch, builds, custom, host_spec, kbuild, patches
from cpuidlab.kernels.builds import Build
from cpuidlab.kernels.kernel import Kernel

SLACK_SECONDS = 1.0  # a file's time comes from a clock that ticks more slowly
RECIPE = "1"  # raised when _fill makes something else of the same packages


@dataclass(frozen=True)
class CatalogueRow:
    """One build as `cpuidlab kernels` shows it; `lack` says why it cannot be used, None where it can."""

    series: str
    release: str
    version: str
    suite: str
    cached: bool
    lack: str | None


@contextmanager
def _cache_trouble() -> Iterator[None]:
    """Turn what the file system says against the cache into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise artifacts.disk_full("kernels", "and their lists") from error
        raise UsageError(f"cannot use the cache: {error}; set XDG_CACHE_HOME to a folder of yours") from error


@_cache_trouble()
def resolve(spec: str, refresh: bool = False) -> Kernel:
    """The kernel that a host spec names, fetched or rebuilt if it is not in the cache yet.

    What a version was resolved to stays its meaning until `refresh`: no network is touched for it again. A tree or an
    image is looked at each time.
    Raises UsageError where there is no such kernel or patch, LabError where it cannot be fetched or built.
    """
    wanted = host_spec.parse(spec)
    if wanted.kind in ("tree", "image"):
        return custom.resolve(wanted)
    if wanted.kind != "debian":
        raise UsageError(f"host '{spec}': {wanted.kind} hosts are not supported yet")
    base = newest_series(refresh) if wanted.base == "newest" else wanted.base
    patch = patches.find(wanted.patch) if wanted.patch else None
    if patch:
        patch.check_series(_series(base))
    kernel = _pinned(base) if not refresh else None
    kernel = replace(kernel or _fetched(base, refresh), spec=spec, label=base)
    return _patched(kernel, patch) if patch else kernel


def known(base: str) -> Kernel | None:
    """The unpatched kernel that `resolve` would take for a series, a point release or "newest" without a network."""
    if base == "newest":
        try:
            base = _pin(base).read_text()
        except OSError:
            return None
    return _pinned(base)


@_cache_trouble()
def newest_series(refresh: bool = False) -> str:
    """The newest series, such as "7.3", of which the archive holds a finished build that can boot; then pinned."""
    pin = _pin("newest")
    if pin.exists() and not refresh:
        return pin.read_text()
    found = [
        build
        for row in builds.suite_rows()
        if row.rolling
        for build in builds.builds_in(row, aptfetch.packages(row.suite, 0 if refresh else aptfetch.FRESH_SECONDS))
        if build.lack is None and not build.prerelease
    ]
    if not found:
        raise LabError("none of the catalogue's rolling suites has a kernel that can boot; name a series, such as 6.12")
    newest = max(found, key=lambda build: build.order).series
    _write_pin("newest", newest)
    return newest


@_cache_trouble()
def catalogue(refresh: bool = False) -> list[CatalogueRow]:
    """Every build in the archive, oldest first, by the package lists known from before or else fetched now.

    `refresh` fetches all lists anew. After the first that cannot be fetched no other is tried, and that is said.
    """
    rows: list[Build] = []
    max_age: float | None = 0.0 if refresh else math.inf
    for suite_row in builds.suite_rows():
        if max_age is not None:
            try:
                aptfetch.packages(suite_row.suite, max_age)
            except (LabError, UsageError) as error:
                say(f"  !! {error}; showing what is known from before")
                max_age = None
        rows += builds.builds_in(suite_row, aptfetch.known_packages(suite_row.suite))
    once = {(build.release, build.version): build for build in rows}  # a security fix lies in its stable suite too
    return [
        CatalogueRow(b.series, b.release, b.version, b.suite.name, _folder(b).is_dir(), b.lack)
        for b in sorted(once.values(), key=lambda build: build.order)
    ]


@_cache_trouble()
def ask_archive() -> str | None:
    """Fetch every package list anew; where that is impossible, one line that says so, after the first that fails."""
    began = time.time()
    for row in builds.suite_rows():
        try:
            aptfetch.packages(row.suite, 0)
        except (LabError, UsageError) as error:
            return f"the archive cannot be asked: {error}"
        age = aptfetch.age(row.suite) or 0.0
        if age > time.time() - began + SLACK_SECONDS:
            return f"the archive cannot be asked: the list of {row.suite.name} is {age / 3600:.1f} hours old"
    return None


@_cache_trouble()
def renew(bases: Sequence[str]) -> list[str]:
    """Fetch the newest build that the lists know of each of `bases`, and pin it. One that cannot be had stays what it
    was; what there is to say of it is returned."""
    troubles = []
    for base in bases:
        try:
            _fetched(base, False)
        except (LabError, UsageError) as error:
            troubles.append(f"{base} stays what it was: {error}")
    return troubles


def _patched(kernel: Kernel, patch: patches.Patch) -> Kernel:
    label = f"{kernel.label}+{patch.label}"
    digests = " ".join(artifacts.file_digest(path) for path in patch.files)
    inputs = {"kernel": kernel.digest, "patch": digests, "recipe": kbuild.RECIPE}
    suite = next(row.suite for row in builds.suite_rows() if row.suite.name == kernel.suite)
    target = kbuild.Target(kernel.release, kernel.version, suite, kernel.modules)
    folder = artifacts.made("patched", label, inputs, lambda into: kbuild.rebuild(target, patch.files, into))
    modules = folder / "lib/modules" / kernel.release
    return replace(kernel, label=label, modules=modules, digest=folder.name, patch=patch.name)


def _fetched(base: str, refresh: bool) -> Kernel:
    """Choose the newest build of `base`, have it in the store, pin it.

    A package list may be a day old and the build gone from the mirror meanwhile, so a failed fetch is tried once
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
    _write_pin(base, folder.name)
    return _load(folder)


def _choose(base: str, max_age: float) -> Build:
    """The newest build of `base` that can boot; UsageError that says why where there is none."""
    rows = builds.rows_for(_series(base))
    known = [build for row in rows for build in builds.builds_in(row, aptfetch.packages(row.suite, max_age))]
    found = [build for build in known if build.matches(base)]
    if not found and max_age:
        return _choose(base, 0)  # it may have come to the archive since the list was read
    usable = [build for build in found if build.lack is None]
    if usable:
        return max(usable, key=lambda build: build.order)
    if found:
        raise UsageError(f"kernel {base} cannot be used: {max(found, key=lambda build: build.order).lack}")
    suites = ", ".join(row.suite.name for row in rows)
    raise UsageError(f"there is no Debian build of kernel {base} in {suites}; 'cpuidlab kernels' lists what there is")


def _series(base: str) -> str:
    return ".".join(base.split(".")[:2])


def _inputs(build: Build) -> dict[str, str]:
    return {"packages": " ".join(build.packages), "version": build.version, "recipe": RECIPE}


def _folder(build: Build) -> Path:
    return cache_dir() / "kernels" / f"{build.release}-{artifacts.key_of(_inputs(build))}"


def _stored(build: Build) -> Path:
    return artifacts.made("kernels", build.release, _inputs(build), lambda into: _fill(into, build))


def _fill(into: Path, build: Build) -> None:
    """Fetch the build's packages and keep vmlinuz and lib/modules/RELEASE of them."""
    unpacked = into / "unpacked"
    aptfetch.fetch(build.suite, dict.fromkeys(build.packages, build.version), unpacked)
    modules = into / "lib/modules" / build.release
    modules.parent.mkdir(parents=True)
    _first(unpacked, f"lib/modules/{build.release}", f"usr/lib/modules/{build.release}").rename(modules)
    _first(into, f"unpacked/boot/vmlinuz-{build.release}", f"{modules.relative_to(into)}/vmlinuz").rename(
        into / "vmlinuz"
    )
    shutil.rmtree(unpacked)
    for link in ("build", "source"):
        (modules / link).unlink(missing_ok=True)
    kbuild.depmod(into, build.release)
    facts = {"release": build.release, "version": build.version, "suite": build.suite.name}
    (into / "kernel.json").write_text(json.dumps(facts))


def _first(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise LabError(
        f"the kernel packages hold none of {', '.join(names)}: their layout is new, see tooling/kernels.toml"
    )


def _load(folder: Path) -> Kernel:
    facts = json.loads((folder / "kernel.json").read_text())
    modules = folder / "lib/modules" / facts["release"]
    return Kernel("", "", **facts, vmlinuz=folder / "vmlinuz", modules=modules, digest=folder.name)


def _pin(base: str) -> Path:
    return cache_dir() / "kernels/pins" / base


def _pinned(base: str) -> Kernel | None:
    """The kernel that `base` was resolved to before, if it is still in the store."""
    try:
        return _load(cache_dir() / "kernels" / _pin(base).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write_pin(base: str, text: str) -> None:
    pin = _pin(base)
    pin.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(pin, text)
