"""Read the distributions that the set-up is tried on: tooling/homes.toml."""

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import TOOLING
from cpuidlab.kernels import aptfetch, mirrors


@dataclass(frozen=True)
class Home:
    """A distribution's release: its suites, the keyring that signs them, and where its archives are."""

    name: str
    suites: tuple[str, ...]
    security: str
    components: str = "main"
    keyring: str = str(aptfetch.KEYRING)
    mirror: str = ""  # a variable that holds the address, where it is not Debian's archive

    def addresses(self) -> tuple[str, str]:
        """Return the addresses of the main and the security archive; UsageError where an address is not known."""
        if not self.mirror:
            return mirrors.mirror("main"), mirrors.mirror("security")
        address = os.environ.get(self.mirror)
        if not address:
            raise UsageError(f"no mirror of it is known: set {self.mirror} to the address of one")
        return address, address

    def sources(self) -> str:
        """Return the apt sources, one line a suite; UsageError where the keyring is not installed."""
        if not Path(self.keyring).exists():
            raise UsageError(f"{self.keyring} is missing; install its keyring's package")
        main, security = self.addresses()
        where = [(main, suite) for suite in self.suites] + [(security, self.security)]
        return "".join(f"deb [signed-by={self.keyring}] {uri} {suite} {self.components}\n" for uri, suite in where)


def homes(names: Sequence[str] = ()) -> list[Home]:
    """Return the homes of these names, without names all homes; UsageError for a name that is not in the table."""
    rows = tomllib.loads((TOOLING / "homes.toml").read_text())["homes"]
    known = {row["name"]: Home(**row | {"suites": tuple(row["suites"])}) for row in rows}
    for name in names:
        if name not in known:
            raise UsageError(f"unknown home '{name}'; there are {', '.join(known)}")
    return [known[name] for name in names or known]
