"""Know the suites that kernels come from: those of tooling/kernels.toml, and those of the user's own table."""

import os
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cpuidlab.base import artifacts, user_table
from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import TOOLING
from cpuidlab.kernels import suite_table
from cpuidlab.kernels.suite import Suite
from cpuidlab.kernels.suite_table import Layout, SuiteRow

VARIABLE = "CPUIDLAB_KERNELS"  # the user's table, if not the default one; the processes of a job's tests inherit it
BUILT_IN = TOOLING / "kernels.toml"


def use(file: str) -> None:
    """Read this table of the user's instead of the default one, in this process and in all that it starts.

    An empty `file` changes nothing. Raises UsageError in one line for a table that is wrong.
    """
    if file:
        os.environ[VARIABLE] = str(Path(file).expanduser().resolve())
    own_rows()


def named_table() -> str:
    """Return the path of the user's table where it is not the default one, else nothing."""
    return os.environ.get(VARIABLE, "")


@cache
def data() -> dict[str, Any]:
    """Return the data of tooling/kernels.toml."""
    return tomllib.loads(BUILT_IN.read_text())


@cache
def built_in_rows() -> tuple[SuiteRow, ...]:
    """Return the suites of tooling/kernels.toml."""
    return suite_table.rows(data(), _layouts(), BUILT_IN)


def own_rows() -> tuple[SuiteRow, ...]:
    """Return the suites of the user's table; UsageError in one line where it is wrong."""
    named = named_table()
    return _read_own(Path(named) if named else user_table.default("kernels.toml"), "--kernels" if named else "")


def suite_rows() -> tuple[SuiteRow, ...]:
    """Return all suites, the user's last."""
    return (*built_in_rows(), *own_rows())


def suite_named(name: str) -> Suite:
    """Return the suite of that name; UsageError where no table names it any more."""
    for row in suite_rows():
        if row.suite.name == name:
            return row.suite
    raise UsageError(f"the suite {name} stands in no table; name its table with --kernels")


def origin(name: str) -> str:
    """Return for people where a suite of the user's is named; empty for a suite of tooling/kernels.toml."""
    return next((f"the suite {name} of {row.suite.table}" for row in own_rows() if row.suite.name == name), "")


def groups_for(base: str, series: str, own: bool) -> list[Sequence[SuiteRow]]:
    """Return groups of suites to look for `base` in, which is a series or a point release of it: the user's first.

    A suite of the user's that names a series alone says what the series means. Without `own` the user's table does not
    count. A series that no suite names is looked for in all rolling suites.
    """
    known = suite_rows() if own else built_in_rows()
    naming = [row for row in known if series in row.series]
    first = [row for row in naming if row.suite.table]
    others = [row for row in naming if not row.suite.table] or [row for row in known if row.rolling]
    if not first:
        return [others]
    return [first] if base == series else [first, others]


def own_key(series: str) -> str:
    """Return a key of the user's suites that a series, or for "" the newest series, may be found in; empty if none."""
    found = [row for row in own_rows() if row.rolling or series in row.series]
    keys = [f"{row.suite.key} {' '.join(layout.packages)}" for row in found for layout in row.layouts]
    return artifacts.key_of({"suites": "; ".join(keys)})[:8] if keys else ""


def _layouts() -> tuple[Layout, ...]:
    return tuple(Layout(tuple(row["packages"]), row.get("star", suite_table.STAR)) for row in data()["layouts"])


@cache  # what a series means must not change while a job runs
def _read_own(file: Path, option: str) -> tuple[SuiteRow, ...]:
    table = user_table.read(file, option) or {}
    unknown = [key for key in table if key != "suites"]
    if unknown:
        raise UsageError(f"{file}: {unknown[0]}: there is no such table; only [[suites]] can be added")
    rows = suite_table.rows(table, _layouts(), file, own=True)
    suite_table.check_names([row.suite.name for row in (*built_in_rows(), *rows)], file)
    return rows
