"""Tell the lines of a host's log that say nothing of CPUID (data in tooling/host-lines.toml)."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache

from cpuidlab.base.paths import TOOLING


@dataclass(frozen=True)
class HostLine:
    """One row of host-lines.toml, whose head explains the fields."""

    pattern: re.Pattern[str]
    why: str
    example: str


def is_unrelated(text: str) -> bool:
    """Whether a line says nothing of CPUID, so that it does not break an expected silence."""
    return any(line.pattern.match(text) for line in host_lines())


@cache
def host_lines() -> tuple[HostLine, ...]:
    """All rows of the table."""
    rows = tomllib.loads((TOOLING / "host-lines.toml").read_text())["line"]
    return tuple(HostLine(re.compile(row["pattern"]), row["why"], row["example"]) for row in rows)
