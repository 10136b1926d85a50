"""Where Debian's main and security archives are, learnt from this machine's own apt sources."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base.errors import UsageError

VARIABLES = {"main": "CPUIDLAB_MIRROR", "security": "CPUIDLAB_SECURITY_MIRROR"}
_RELEASES = {"bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable"}
_ONE_LINE = re.compile(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(\S.*)")


@dataclass(frozen=True)
class Source:
    """One address that apt uses, with one suite of it."""

    uri: str
    suite: str
    components: tuple[str, ...]


def mirror(archive: str, apt_folder: Path = Path("/etc/apt")) -> str:
    """The address of Debian's "main" or "security" archive: the variable if set, else what this machine's apt uses.

    Raises UsageError naming the variable where the machine's apt knows none, as on Ubuntu.
    """
    variable = VARIABLES[archive]
    given = os.environ.get(variable)
    if given:
        return given
    known = sources(apt_folder)
    votes = Counter(source.uri for source in known if _archive_of(source) == archive)
    if not votes:
        raise UsageError(f"this machine's apt names no Debian {archive} archive; {_offer(archive, known)}")
    return votes.most_common(1)[0][0]


def _offer(archive: str, known: Iterable[Source]) -> str:
    """Say what to do about an archive that apt does not name: `debian-security` mostly lies beside `debian`."""
    variable = VARIABLES[archive]
    mains = sorted({source.uri for source in known if _archive_of(source) == "main"})
    beside = [uri for uri in mains if uri.endswith("/debian")]
    if archive == "security" and beside:
        return f"Debian keeps it beside its main archive: export {variable}={beside[0]}-security"
    return f"set {variable} to the address of a Debian mirror's {archive} archive"


def sources(apt_folder: Path) -> list[Source]:
    """Every binary-package source of an apt folder, from one-line and deb822 files."""
    parts = apt_folder / "sources.list.d"
    lists = [apt_folder / "sources.list", *sorted(parts.glob("*.list"))]
    found = [source for path in lists for source in _one_line(_text(path))]
    return found + [source for path in sorted(parts.glob("*.sources")) for source in _deb822(_text(path))]


def _archive_of(source: Source) -> str | None:
    """Which of Debian's archives a source is, told by its suite: other vendors use suites of their own."""
    codename, _, rest = source.suite.partition("-")
    if "main" not in source.components or codename not in _RELEASES:
        return None
    return {"": "main", "updates": "main", "backports": "main", "security": "security"}.get(rest)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # not there, or not for us to read: then it names no mirror for us
        return ""


def _one_line(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = _ONE_LINE.match(line.partition("#")[0].strip())
        if match:
            yield Source(match[1].rstrip("/"), match[2], tuple(match[3].split()))


def _deb822(text: str) -> Iterator[Source]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", lines):
        fields = {m[1].lower(): m[2].split() for m in re.finditer(r"(?m)^([\w-]+):((?:.|\n(?=[ \t]))*)", stanza)}
        if "deb" not in fields.get("types", []) or fields.get("enabled") == ["no"] or not fields.get("uris"):
            continue
        for suite in fields.get("suites", []):
            yield Source(fields["uris"][0].rstrip("/"), suite, tuple(fields.get("components", [])))
