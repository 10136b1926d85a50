"""Find the kernel builds in the package list of a suite, by the layouts that the suite's table names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpuidlab.kernels.suite import Suite
from cpuidlab.kernels.suite_table import Layout, SuiteRow
from cpuidlab.kernels.version import Version, is_version, upstream


@dataclass(frozen=True)
class Build:
    """One kernel build: `version` is the package version; `lack` says why it cannot boot, None where it can."""

    release: str
    version: str
    suite: Suite
    packages: tuple[str, ...]
    lack: str | None

    @property
    def upstream(self) -> Version:
        """Return Linux X.Y.Z of the package version (the release 5.10.0-46 does not tell Z)."""
        return upstream(self.version)

    @property
    def series(self) -> str:
        return "{}.{}".format(*self.upstream)

    @property
    def prerelease(self) -> bool:
        return "~rc" in self.version

    @property
    def order(self) -> tuple[Version, bool, tuple[int, ...]]:
        """Return a key that sorts builds from old to new: version, finished after candidates, Debian's revision.

        `dpkg --compare-versions` knows the full rule, but would be a process for each pair of some hundred builds.
        """
        revision = self.version.partition("-")[2]
        return self.upstream, not self.prerelease, tuple(map(int, re.findall(r"\d+", revision)))

    def matches(self, base: str) -> bool:
        """Tell whether `base`, a series such as 5.10 or a point release such as 6.18.5, names this build."""
        wanted = tuple(map(int, base.split(".")))
        return self.upstream[: len(wanted)] == wanted


def builds_in(row: SuiteRow, packages: Mapping[str, Sequence[str]]) -> list[Build]:
    """Return the builds in a suite's package list (name to versions, newest first) that the catalogue looks for."""
    found: dict[str, Build] = {}
    for layout in row.layouts:
        for name, versions in packages.items():
            match = layout.pattern.fullmatch(name)
            if match and match[1] not in found and is_version(versions[0]):
                found[match[1]] = _build(row.suite, layout, match[1], versions[0], packages)
    return [build for build in found.values() if row.rolling or build.series in row.series]


def _build(
    suite: Suite, layout: Layout, release: str, version: str, packages: Mapping[str, Sequence[str]]
) -> Build:  # fmt: skip
    names = layout.names(release)
    missing = [name for name in names if version not in packages.get(name, ())]
    lack = f"{suite.name} has no package {' nor '.join(missing)}" if missing else None
    return Build(release, version, suite, names, lack)
