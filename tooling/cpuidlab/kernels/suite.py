"""Describe a suite of an archive of packages."""

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from cpuidlab.base.artifacts import key_of
from cpuidlab.base.paths import cache_dir

LOCK_SECONDS = 1800


@dataclass(frozen=True)
class Suite:
    """A suite of an archive: where it is, and how it is checked.

    Without a `mirror` it lies in Debian's "main" or "security" `archive`, whose address this machine knows. `calls` is
    the suite's name there, if it is not `name`. The lists of an `ended` suite are out of date. `keyring` is Debian's
    where it is None. `prefixes` begin the names of the packages that count. `table` is the user's file that names the
    suite; empty for a suite of the project. With `sources` its source packages are listed too.
    """

    name: str
    archive: str = "main"
    ended: bool = False
    calls: str = ""
    component: str = "main"
    mirror: str = ""
    keyring: Path | None = None
    prefixes: tuple[str, ...] = ("linux-",)
    table: str = ""
    sources: bool = False

    @property
    def key(self) -> str:
        """Return a key that changes with all that the user's table says of a suite; empty for a suite of the project.

        Two tables may have a suite of one name, which must not share what was fetched.
        """
        if not self.table:
            return ""
        where = {"mirror": self.mirror, "archive": self.archive, "calls": self.calls, "component": self.component}
        return key_of({**where, "keyring": str(self.keyring), "prefixes": " ".join(self.prefixes)})[:8]

    @property
    def inputs(self) -> dict[str, str]:
        """Return what names things made from the suite's packages, beside the packages and their version.

        Another suite may have something else in a package of the same version; the project's suites do not.
        """
        return {"suite": f"{self.name} {self.key}"} if self.table else {}

    @property
    def folder(self) -> Path:
        return cache_dir() / "apt" / (f"{self.name}-{self.key}" if self.table else self.name)

    def lock(self) -> FileLock:
        return FileLock(str(self.folder) + ".lock", timeout=LOCK_SECONDS)
