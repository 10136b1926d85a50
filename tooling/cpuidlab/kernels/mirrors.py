"""Learn from this machine's own apt where Debian's main and security archives are."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cpuidlab.base import command
from cpuidlab.base.errors import LabError, UsageError

VARIABLES = {"main": "CPUIDLAB_MIRROR", "security": "CPUIDLAB_SECURITY_MIRROR"}
_RELEASES = {"bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable"}
# What follows the release in the name of a suite, and the archive that the suite belongs to.
_ARCHIVES = {"": "main", "updates": "main", "backports": "main", "security": "security"}
# apt-get(8): a line for each index of binary packages that the sources stand for, fetched or not.
_INDEXES = ["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages"]  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One address that apt uses, with one suite and one component of it."""

    uri: str
    suite: str
    component: str

    @property
    def archive(self) -> str | None:
        """Return which of Debian's archives this is, told by its suite: other vendors have suites of their own."""
        release, _, rest = self.suite.partition("-")
        return _ARCHIVES.get(rest) if self.component == "main" and release in _RELEASES else None


def mirror(archive: str) -> str:
    """Return the address of Debian's "main" or "security" archive: the variable if set, else what apt uses most.

    Raises UsageError naming the variable where the machine's apt knows no such archive, as on Ubuntu, or cannot read
    its own sources.
    """
    variable = VARIABLES[archive]
    given = os.environ.get(variable)
    if given:
        return given
    known = sources()
    votes = Counter(source.uri for source in known if source.archive == archive)
    if not votes:
        raise UsageError(f"this machine's apt names no Debian {archive} archive; {_offer(archive, known)}")
    return votes.most_common(1)[0][0]


def sources() -> list[Source]:
    """Return every source of binary packages that this machine's apt is set up with."""
    try:
        lines = command.run(_INDEXES, seconds=60, env={**os.environ, "LC_ALL": "C"}).splitlines()
    except LabError as error:
        names = " and ".join(VARIABLES.values())
        raise UsageError(f"apt cannot read its own sources: {apt_error(error)}; mend them or set {names}") from error
    # each architecture has a line of its own; the address of a medium (cdrom:) may hold blanks
    words = dict.fromkeys(tuple(line.rsplit(" ", 2)) for line in lines)
    return [Source(uri.rstrip("/"), suite, component) for uri, suite, component in words]


def apt_error(error: LabError) -> str:
    """Return the first error that a failed apt printed of itself, which names the cause; else the whole error.

    Of a wrong key apt warns before it says, as its error, that the suite is not signed.
    """
    key = re.search(r"(?m)^[WE]: ((?:GPG error|OpenPGP signature verification failed): .+)", error.evidence)
    first = key or re.search(r"(?m)^E: (.+)", error.evidence)
    return first[1] if first else str(error)


def _offer(archive: str, known: Iterable[Source]) -> str:
    """Say what to do about an archive that apt does not name: `debian-security` mostly lies beside `debian`."""
    variable = VARIABLES[archive]
    mains = sorted({source.uri for source in known if source.archive == "main"})
    beside = [uri for uri in mains if uri.endswith("/debian")]
    if archive == "security" and beside:
        return f"Debian keeps it beside its main archive: export {variable}={beside[0]}-security"
    return f"set {variable} to the address of a Debian mirror's {archive} archive"
