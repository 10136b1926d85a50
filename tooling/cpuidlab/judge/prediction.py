"""What a host is predicted to promise, and who says so: the user, its patch, the user's table, or its version."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.judge.eras import Era, era, predict
from cpuidlab.kernels import host_spec, patches
from cpuidlab.kernels.kernel import Kernel

NAMED = "--era"  # the source of an era that the user has named
TABLE = "releases"  # [releases] in eras.toml: "*.el9*" = "forbid-changed"


@dataclass(frozen=True)
class Prediction:
    """An era and who names it; `source` is empty where it is the version, as usual."""

    era: Era
    source: str = ""

    def told(self, host: str) -> str:
        """Who says so of `host`, for people; empty where it is the version."""
        return f"era {self.era.name} of {host} is named by {self.source}" if self.source else ""


def predicted(kernel: Kernel, named: str = "", table: str = "") -> Prediction:
    """What `kernel` is predicted to promise: the era `named` by the user, that of its patch, that of the first pattern
    in the user's table that fits its release, else that of its version."""
    if named:
        return Prediction(era(named), NAMED)
    patch = host_spec.parse(kernel.spec).patch
    if patch and (of_patch := patches.find(patch).era):
        return Prediction(era(of_patch), f"the patch '{patch}'")
    return of_release(kernel.release, kernel.version, table)


def of_release(release: str, version: str, table: str = "") -> Prediction:
    """What a kernel without a patch is predicted to promise."""
    file = Path(table) if table else default_table()
    for pattern, name in overrides(file, required=bool(table)).items():
        if fnmatchcase(release, pattern):
            return Prediction(era(name), f"'{pattern}' in {file}")
    return Prediction(predict(version))


def default_table() -> Path:
    """The user's own eras.toml, which need not exist."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "kvm-cpuid-lab/eras.toml"


@cache
def overrides(file: Path, required: bool) -> Mapping[str, str]:
    """Patterns of `uname -r`, as a shell has them, and eras, in the file's order; UsageError where it is not that."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if required:
            raise UsageError(f"there is no file {file}, which is named for --eras") from error
        return {}
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{file} is no TOML: {error}") from error
    releases = table.get(TABLE)
    if set(table) != {TABLE} or not isinstance(releases, dict):
        raise UsageError(f'{file} should hold one table, [{TABLE}], with lines such as "*.el9*" = "forbid-changed"')
    for pattern, name in releases.items():
        if not isinstance(name, str):
            raise UsageError(f"{file}: '{pattern}' should be the name of an era; a pattern stands in quotes")
        try:
            era(name)
        except UsageError as error:
            raise UsageError(f"{file}: '{pattern}': {error}") from error
    return releases
