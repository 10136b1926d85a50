"""Take apart the text that names a host under test, such as `5.10+warning`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpuidlab.base.errors import UsageError

Kind = Literal["debian", "tree", "image", "local", "ssh"]

FORMS = (
    "5.10, 6.18.5, newest, 5.10+warning, 5.10+/path/to/any.patch, tree:DIR, image:BZIMAGE,MODULESDIR, "
    "local, ssh://[user@]host[:port]"
)
_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")
_UNSAFE = re.compile(r"[^\w.+-]", re.ASCII)  # in the name of a folder
_SSH = re.compile(r"ssh://(?:[^@/:\s]+@)?(?P<host>(?!-)[^@/:\s,]+)(?P<port>:\d+)?")


@dataclass(frozen=True)
class HostSpec:
    """One host spec. `base` is set for kind "debian" only: a series, a point release or "newest".

    `patch` is a patch's name or path; `location` holds what follows `tree:` or `image:`, as absolute paths, or the
    whole ssh address.
    """

    text: str
    kind: Kind
    base: str = ""
    patch: str | None = None
    location: str = ""

    @property
    def label(self) -> str:
        """Return the short name to show and to name folders with: of a patch or tree the last part of its path."""
        if self.kind == "tree":
            return f"tree:{_UNSAFE.sub('_', Path(self.location).name)[:40]}"
        if self.kind == "ssh":
            return f"ssh:{_UNSAFE.sub('_', self.location.removeprefix('ssh://').rpartition('@')[2])}"
        patch = Path(self.patch).stem if self.patch else None
        return f"{self.base}+{patch}" if patch else self.base or self.text

    @property
    def absolute(self) -> str:
        """Return the spec as it can be used from any folder."""
        return f"{self.kind}:{self.location}" if self.kind in ("tree", "image") else self.text


def parse(text: str) -> HostSpec:
    """Take a host spec apart; raises UsageError that lists the forms where the text has none of them."""
    spec = _parse_debian(text) or _parse_other(text)
    if spec is None:
        raise UsageError(f"host '{text}' is not understood; known forms: {FORMS}")
    return spec


def is_real(text: str) -> bool:
    """Tell whether a host spec names a real machine, which the lab does not boot."""
    return parse(text).kind in ("local", "ssh")


def _parse_debian(text: str) -> HostSpec | None:
    base, plus, patch = text.partition("+")
    if not (_VERSION.fullmatch(base) or base == "newest") or (plus and not patch):
        return None
    return HostSpec(text, "debian", base=base, patch=patch or None)


def _parse_other(text: str) -> HostSpec | None:
    if text == "local":
        return HostSpec(text, "local")
    if _SSH.fullmatch(text):
        return HostSpec(text, "ssh", location=text)
    kind, _, location = text.partition(":")
    paths = location.split(",")
    if (kind, len(paths)) not in (("tree", 1), ("image", 2)) or not all(path.strip() for path in paths):
        return None
    return HostSpec(text, "tree" if kind == "tree" else "image", location=",".join(map(_absolute, paths)))


def _absolute(path: str) -> str:
    try:
        return str(Path(path.strip()).expanduser().resolve())
    except (RuntimeError, ValueError, OSError) as error:  # an unknown user's home, a zero byte, a loop of links
        raise UsageError(f"'{path}' is no path: {error}") from error
