"""Turn a host spec into a kernel that can boot: vmlinuz and modules in the cache, fetched or built once."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from cpuidlab.base import artifacts
from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.progress import say
from cpuidlab.kernels import custom, debian, host_spec, kbuild, packages, patches, suites
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.kernels.patches import Patch
from cpuidlab.kernels.pins import cache_errors
from cpuidlab.kernels.version import series_of

PATCHED = Kind("patched", cost=120)


@cache_errors()
def resolve(spec: str, refresh: bool = False, own: bool = True) -> Kernel:
    """Return the kernel that a host spec names, fetched or rebuilt if it is not in the cache yet.

    A version keeps the meaning that it was resolved to until `refresh`: no network is needed for it again. A tree, an
    image or a package is read each time. Without `own` the suites of the user's table do not count.
    Raises UsageError where there is no such kernel or patch, LabError where it cannot be fetched or built.
    """
    wanted = host_spec.parse(spec)
    if wanted.kind in ("tree", "image"):
        return custom.resolve(wanted)
    if wanted.kind in host_spec.PACKAGES:
        return packages.resolve(wanted)
    if wanted.kind != "debian":
        raise UsageError(f"host '{spec}': {wanted.kind} hosts are not supported yet")
    base = newest_series(refresh) if wanted.base == "newest" else wanted.base
    patch = patches.find(wanted.patch) if wanted.patch else None
    if patch:
        patch.check_series(series_of(base))
    kernel = None if refresh else debian.pinned(base, own)
    kernel = replace(kernel or debian.fetch(base, refresh, own), spec=spec, label=base)
    return _patched(kernel, patch) if patch else kernel


def known(base: str, own: bool = True) -> Kernel | None:
    """Return the unpatched kernel that `resolve` would take for a series, a point release or "newest".

    Nothing is fetched: the answer is None where `resolve` would need the network.
    """
    try:
        series = debian.pinned_newest() if base == "newest" else base
        return debian.pinned(series, own) if series else None
    except OSError:
        return None


@cache_errors()
def newest_series(refresh: bool = False) -> str:
    """Return the newest series that can boot, such as "7.3"; fetch the package lists where it is not known yet."""
    return debian.newest_series(refresh)


@cache_errors()
def renew(bases: Sequence[str]) -> list[str]:
    """Fetch the newest build that the lists know of each of `bases`, and pin it.

    Return a line for each base that cannot be fetched; such a base keeps its kernel.
    """
    troubles = []
    for base in bases:
        try:
            debian.fetch(base, refresh=False)
        except (LabError, UsageError) as error:
            troubles.append(f"{base} stays what it was: {error}")
    return troubles


@cache
def _say_left_out(name: str, files: tuple[str, ...]) -> None:
    if files:
        say(f"  .. patch {name}: left out, as KVM's modules are not built from it: {', '.join(files)}")


def _patched(kernel: Kernel, patch: Patch) -> Kernel:
    label = f"{kernel.label}+{patch.label}"
    _say_left_out(patch.name, patch.left_out)
    inputs = {"kernel": kernel.digest, "patch": patch.digest, "recipe": kbuild.RECIPE}
    suite = suites.suite_named(kernel.suite)
    target = kbuild.Target(kernel.release, kernel.version, suite, kernel.modules)
    folder = artifacts.made(PATCHED, label, inputs, lambda into: kbuild.rebuild(target, patch.diffs, into))
    modules = folder / "lib/modules" / kernel.release
    return replace(kernel, label=label, modules=modules, digest=folder.name, patch=patch.name)
