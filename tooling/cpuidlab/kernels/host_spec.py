"""Take apart the text that names a host under test, such as `5.10+warning`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpuidlab.base.errors import UsageError

Kind = Literal["debian", "tree", "image", "deb", "rpm", "local", "ssh"]

PACKAGES: tuple[Kind, ...] = ("deb", "rpm")
OWN: tuple[Kind, ...] = ("tree", "image", *PACKAGES)  # kernels of the user's own, which lie in files
FORMS = (
    "5.10, 6.18.5, newest, 5.10+warning, 5.10+/path/to/any.patch, tree:DIR, image:BZIMAGE,MODULESDIR, "
    "deb:A.deb[,B.deb...], rpm:A.rpm[,B.rpm...], local, ssh://[user@]host[:port]"
)
_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")
_UNSAFE = re.compile(r"[^\w.+-]", re.ASCII)  # in the name of a folder
_SSH = re.compile(r"ssh://(?:[^@/:\s]+@)?(?P<host>(?!-)[^@/:\s,]+)(?P<port>:\d+)?")


@dataclass(frozen=True)
class HostSpec:
    """One host spec. `base` is set for kind "debian" only: a series, a point release or "newest".

    `patch` is a patch's name or path; `location` holds what follows `tree:`, `image:`, `deb:` or `rpm:`, as absolute
    paths, or the whole ssh address.
    """

    text: str
    kind: Kind
    base: str = ""
    patch: str | None = None
    location: str = ""

    @property
    def label(self) -> str:
        """Return the short name to show and to name folders with: of a path only its last part.

        Of packages and of an image it is not the name of the host: that one tells their release.
        """
        if self.kind == "tree":
            return f"tree:{_UNSAFE.sub('_', self.paths[0].name)[:40]}"
        if self.kind in PACKAGES:
            return f"{self.kind}:{_UNSAFE.sub('_', min(path.stem for path in self.paths))[:80]}"
        if self.kind == "ssh":
            return f"ssh:{_UNSAFE.sub('_', self.location.removeprefix('ssh://').rpartition('@')[2])}"
        patch = Path(self.patch).stem if self.patch else None
        return f"{self.base}+{patch}" if patch else self.base or self.text

    @property
    def absolute(self) -> str:
        """Return the spec as it can be used from any folder."""
        return f"{self.kind}:{self.location}" if self.kind in OWN else self.text

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the absolute paths of a kernel of the user's own."""
        return tuple(map(Path, self.location.split(",")))


def parse(text: str) -> HostSpec:
    """Take a host spec apart; raises UsageError that lists the forms where the text has none of them."""
    spec = _parse_debian(text) or _parse_other(text)
    if spec is None:
        raise UsageError(f"host '{text}' is not understood; known forms: {FORMS}")
    return spec


def split_hosts(text: str) -> tuple[str, ...]:
    """Return the specs of a comma-separated list. The commas inside `image:`, `deb:` and `rpm:` separate no hosts."""
    specs: list[str] = []
    for word in filter(None, map(str.strip, text.split(","))):
        if specs and _goes_on(specs[-1], word):
            specs[-1] += f",{word}"
        else:
            specs.append(word)
    return tuple(dict.fromkeys(specs))


def _goes_on(spec: str, word: str) -> bool:
    """Tell whether the word belongs to the spec before it: an image's modules, or one more package of its kind."""
    kind, colon, location = spec.partition(":")
    if kind == "image" and colon:
        return "," not in location
    return bool(colon) and kind in PACKAGES and ":" not in word and word.endswith(f".{kind}")


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
    kind = next((kind for kind in OWN if text.startswith(f"{kind}:")), None)
    paths = [path.strip() for path in text.partition(":")[2].split(",")]
    if kind is None or not all(paths) or len(paths) != {"tree": 1, "image": 2}.get(kind, len(paths)):
        return None
    if kind in PACKAGES:
        return HostSpec(text, kind, location=",".join(sorted({_package(kind, path) for path in paths})))
    return HostSpec(text, kind, location=",".join(str(_absolute(path).resolve()) for path in paths))


def _package(kind: Kind, path: str) -> str:
    """Return the absolute path of a package; a symbolic link is not followed, because its own name ends in .deb."""
    if not path.endswith(f".{kind}"):
        raise UsageError(f"'{path}' does not end in .{kind}, as a package must; a name with a comma cannot be given")
    return str(_absolute(path))


def _absolute(path: str) -> Path:
    try:
        found = Path(path).expanduser().absolute()
        found.resolve()
    except (RuntimeError, ValueError, OSError) as error:  # an unknown user's home, a zero byte, a loop of links
        raise UsageError(f"'{path}' is no path: {error}") from error
    if "," in str(found):
        raise UsageError(f"{found} has a comma in it, and commas separate the paths of a host")
    return found
