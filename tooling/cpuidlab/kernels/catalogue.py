"""List every kernel build that the archives hold, as `cpuidlab kernels` and `--hosts all` show them."""

import math
import time
from dataclasses import dataclass

from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.progress import say
from cpuidlab.kernels import aptfetch, builds, debian, suites
from cpuidlab.kernels.builds import Build
from cpuidlab.kernels.pins import cache_errors
from cpuidlab.kernels.suite import Suite
from cpuidlab.kernels.suite_table import SuiteRow

SLACK_SECONDS = 1.0  # the clock that dates files ticks more slowly than time.time()


@dataclass(frozen=True)
class CatalogueRow:
    """One build as `cpuidlab kernels` shows it; `lack` says why it cannot be used, None where it can.

    `table` is the user's file that names the suite; empty for a suite of the project.
    """

    series: str
    release: str
    version: str
    suite: str
    cached: bool
    lack: str | None
    table: str = ""


@cache_errors()
def catalogue(refresh: bool = False) -> list[CatalogueRow]:
    """Return every build in the archives, oldest first, by the package lists known from before or else fetched now.

    `refresh` fetches all lists anew. A list that cannot be fetched is told. After one of the project's suites none of
    its others is tried, for they share their mirrors; each of the user's suites is tried.
    """
    _ask(0.0 if refresh else math.inf)
    known = [build for row in suites.suite_rows() for build in _known_builds(row)]
    # a security fix lies in its stable suite too
    once = {(build.release, build.version, build.suite.table): build for build in known}
    return [_row(build) for build in sorted(once.values(), key=lambda build: build.order)]


def _known_builds(row: SuiteRow) -> list[Build]:
    """Return the builds in the list known from before; say so where a suite of the user's holds none."""
    listed = aptfetch.known_packages(row.suite)
    found = builds.builds_in(row, listed)
    if row.suite.table and listed and not found:
        say(f"  !! {row.suite.name} holds no {row.layouts[0].packages[0]} of the series that {row.suite.table} names")
    return found


def _ask(max_age: float) -> None:
    """Have lists that are at most `max_age` seconds old, as far as that can be."""
    for row in suites.built_in_rows():
        if not _told(row.suite, max_age):
            break
    for row in suites.own_rows():
        _told(row.suite, max_age)


def _told(suite: Suite, max_age: float) -> bool:
    """Have a list that is at most `max_age` seconds old; False where that cannot be, which is said."""
    try:
        aptfetch.packages(suite, max_age)
    except (LabError, UsageError) as error:
        say(f"  !! {error}; showing what is known from before")
        return False
    return True


@cache_errors()
def ask_archive() -> str | None:
    """Fetch every package list of the project's suites. Return None, or a line about the first that cannot be had."""
    return next(filter(None, (_trouble(row.suite) for row in suites.built_in_rows())), None)


@cache_errors()
def ask_own_suites() -> list[str]:
    """Fetch every package list of the user's suites, and return a line about each that cannot be had."""
    return list(filter(None, (_trouble(row.suite) for row in suites.own_rows())))


def _trouble(suite: Suite) -> str:
    """Fetch a package list; why this cannot be done, empty where it is done."""
    began = time.time()
    try:
        aptfetch.packages(suite, 0)
    except (LabError, UsageError) as error:
        return f"the archive cannot be asked: {error}"
    age = aptfetch.age(suite) or 0.0
    if age > time.time() - began + SLACK_SECONDS:
        return f"the archive cannot be asked: the list of {suite.name} is {age / 3600:.1f} hours old"
    return ""


def _row(build: Build) -> CatalogueRow:
    cached = debian.folder_of(build).is_dir()
    suite = build.suite
    return CatalogueRow(build.series, build.release, build.version, suite.name, cached, build.lack, suite.table)
