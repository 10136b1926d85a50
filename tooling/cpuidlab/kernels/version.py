"""Read the upstream version of a kernel from its release or its package version, and where in history it lies."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from cpuidlab.base.errors import UsageError

# Distributions append to the upstream version: 5.10.251-1, 6.12.107+deb13-cloud-amd64, 7.3~rc2-1, 5.14.0-427.el9.
_VERSION = re.compile(r"\s*v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?!\d)")
# What follows the version of a candidate: -rc1, ~rc4-1 (Debian), -0.rc1.14.fc44 (Fedora), -061900rc1-generic (Ubuntu).
_CANDIDATE = re.compile(r"[-~](?:0\.|\d{6})?rc(\d{1,2})(?!\d)")
_NEXT = re.compile(r"-next-(\d{8})(?!\d)")
_FEDORA = re.compile(r"\.(\d{6}|\d{8})g(?:it)?[0-9a-f]{7,}\.")  # such as 0.rc1.251219g559e608c4655.14
# What scripts/setlocalversion appends to a tree with commits after the tag: -12345-gabcdef, or + alone.
_AFTER = re.compile(r"-\d+-g[0-9a-f]{4,40}(?![0-9a-z])|\+(-dirty)?\s*$")

Version = tuple[int, int, int]
Point = tuple[int, int, int, int]  # major, minor, patch level, and candidate: FINAL for a release
FINAL = 99
LAST_POINT = 9999  # no series has as many point releases
LAST_MINORS = {3: 19, 4: 20, 5: 19, 6: 19}  # of each major version that has ended

Kind = Literal["release", "candidate", "after", "next", "series"]


@dataclass(frozen=True)
class Place:
    """Where a kernel lies in upstream's history: it has all of the tag `first` and nothing that came after `last`.

    The two are equal for a kernel that is a tag. A "series" is a kernel that may be any point release of its series.
    `snapshot` is the day of a tree that tells its day.
    """

    kind: Kind
    first: Point
    last: Point
    snapshot: date | None = None


def is_version(text: str) -> bool:
    """Tell whether the text begins with a kernel version."""
    return _VERSION.match(text) is not None


def series_of(base: str) -> str:
    """Return the series of a series or a point release: 6.18 of 6.18.5."""
    return ".".join(base.split(".")[:2])


def upstream(version: str) -> Version:
    """Return the upstream version at the head of a release or package version; a missing patch level is 0.

    Raises UsageError where the text begins with no version.
    """
    match = _VERSION.match(version)
    if match is None:
        raise UsageError(f"cannot read a kernel version from {version!r}; it should begin like 6.12.107")
    major, minor, patch = match.groups(default="0")
    return int(major), int(minor), int(patch)


def bound(text: str) -> Point:
    """Where a range of kernels begins or ends: 5.16-rc3 is that tag, 5.16 stands before all candidates of 5.16."""
    candidate = _candidate(text)
    return *upstream(text), candidate or 0


def place(version: str) -> Place:
    """Where the kernel of this release or package version lies in upstream's history.

    Raises UsageError where no version can be read.
    """
    number, candidate = upstream(version), _candidate(version)
    if number[2]:
        candidate = None  # a candidate of a point release has what the point release will have
    tag: Point = *number, FINAL if candidate is None else candidate
    if candidate == 0:
        tag = _release_before(number)  # Fedora counts the merge window as rc0
    if found := _NEXT.search(version):
        return Place("next", tag, _next_tag(tag), _day(found[1]))
    if found := _FEDORA.search(version):
        return Place("after", tag, _next_tag(tag), _day(found[1]))
    if _AFTER.search(version) or candidate == 0:
        return Place("after", tag, _next_tag(tag))
    return Place("release" if candidate is None else "candidate", tag, tag)


def series(version: str) -> Place:
    """The place of a kernel whose version hides the point release; UsageError where no version can be read."""
    major, minor, _ = upstream(version)
    return Place("series", (major, minor, 0, FINAL), (major, minor, LAST_POINT, FINAL))


def point_text(point: Point) -> str:
    """Such as 6.18, 6.18.3 or 6.19-rc2."""
    major, minor, patch, candidate = point
    text = f"{major}.{minor}" + (f".{patch}" if patch else "")
    return text if candidate in (0, FINAL) else f"{text}-rc{candidate}"


def _candidate(version: str) -> int | None:
    found = _VERSION.match(version)
    match = _CANDIDATE.match(version, found.end()) if found else None
    return int(match[1]) if match else None


def _next_tag(tag: Point) -> Point:
    """The tag that follows on the same branch; after a release X.Y mainline goes on with the next candidate."""
    major, minor, patch, candidate = tag
    if patch:
        return major, minor, patch + 1, FINAL
    if candidate != FINAL:
        return major, minor, 0, candidate + 1
    if minor == LAST_MINORS.get(major):
        return major + 1, 0, 0, 1
    return major, minor + 1, 0, 1


def _release_before(number: Version) -> Point:
    major, minor, _ = number
    return (major, minor - 1, 0, FINAL) if minor else (major - 1, LAST_MINORS.get(major - 1, 0), 0, FINAL)


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text if len(text) == 8 else f"20{text}", "%Y%m%d").date()
    except ValueError:
        return None
