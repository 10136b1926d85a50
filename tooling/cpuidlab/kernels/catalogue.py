"""List every kernel build that the archive holds, as `cpuidlab kernels` and `--hosts all` show them."""

import math
import time
from dataclasses import dataclass

from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.progress import say
from cpuidlab.kernels import aptfetch, builds, debian
from cpuidlab.kernels.builds import Build
from cpuidlab.kernels.pins import cache_errors

SLACK_SECONDS = 1.0  # the clock that dates files ticks more slowly than time.time()


@dataclass(frozen=True)
class CatalogueRow:
    """One build as `cpuidlab kernels` shows it; `lack` says why it cannot be used, None where it can."""

    series: str
    release: str
    version: str
    suite: str
    cached: bool
    lack: str | None


@cache_errors()
def catalogue(refresh: bool = False) -> list[CatalogueRow]:
    """Return every build in the archive, oldest first, by the package lists known from before or else fetched now.

    `refresh` fetches all lists anew. After the first list that cannot be fetched no other is tried, and that is said.
    """
    known: list[Build] = []
    max_age: float | None = 0.0 if refresh else math.inf
    for row in builds.suite_rows():
        if max_age is not None:
            try:
                aptfetch.packages(row.suite, max_age)
            except (LabError, UsageError) as error:
                say(f"  !! {error}; showing what is known from before")
                max_age = None
        known += builds.builds_in(row, aptfetch.known_packages(row.suite))
    once = {(build.release, build.version): build for build in known}  # a security fix lies in its stable suite too
    return [_row(build) for build in sorted(once.values(), key=lambda build: build.order)]


@cache_errors()
def ask_archive() -> str | None:
    """Fetch every package list anew. Return None, or one line about the first list that cannot be fetched."""
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


def _row(build: Build) -> CatalogueRow:
    cached = debian.folder_of(build).is_dir()
    return CatalogueRow(build.series, build.release, build.version, build.suite.name, cached, build.lack)
