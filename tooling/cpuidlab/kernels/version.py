"""Read the upstream version of a kernel from its release or its package version."""

import re

from cpuidlab.base.errors import UsageError

# Distributions append to the upstream version: 5.10.251-1, 6.12.107+deb13-cloud-amd64, 7.3~rc2-1, 5.14.0-427.el9.
_VERSION = re.compile(r"\s*v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?(?!\d)")

Version = tuple[int, int, int]


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
