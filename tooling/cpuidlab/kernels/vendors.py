"""Who made a kernel, read from its release, and what that says of its KVM (data in tooling/vendors.toml)."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache

from cpuidlab.base.paths import TOOLING


@dataclass(frozen=True)
class Vendor:
    """One row of vendors.toml, whose head explains the fields."""

    name: str
    pattern: re.Pattern[str]
    kvm: str
    hides: bool
    eras: tuple[str, ...]
    reason: str


def vendor_of(release: str) -> Vendor | None:
    """The first row that fits the release (`uname -r`); None for a kernel of upstream's or of nobody known."""
    return next((vendor for vendor in vendors() if vendor.pattern.search(release)), None)


@cache
def vendors() -> tuple[Vendor, ...]:
    """All rows, in the order in which they are tried."""
    rows = tomllib.loads((TOOLING / "vendors.toml").read_text())["vendor"]
    return tuple(
        Vendor(
            row["name"], re.compile(row["pattern"]), row["kvm"], row.get("hides", False),
            tuple(row.get("eras", ())), row["reason"],
        )
        for row in rows
    )  # fmt: skip
