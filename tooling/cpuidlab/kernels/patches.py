"""Find the patches that KVM can be rebuilt with: the project's own by name, all others by path."""

import email.parser
import hashlib
import tomllib
from dataclasses import dataclass
from email.message import Message
from functools import cached_property
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import TOOLING
from cpuidlab.kernels import host_spec, mail, patch_files
from cpuidlab.kernels.patch_files import Diff
from cpuidlab.kernels.version import series_of

FOLDER = TOOLING / "patches"


@dataclass(frozen=True)
class Patch:
    """A patch file, a mailbox or a folder of patches.

    `era` is the era that a kernel with the patch is predicted to belong to, None if nobody knows. `series` are the
    kernel series that it is written for, empty for any. `on` is the patch that it is written on top of.
    """

    name: str
    path: Path
    era: str | None = None
    series: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    description: str = ""
    on: "Patch | None" = None

    @cached_property
    def diffs(self) -> tuple[Diff, ...]:
        """What is applied, in order. Raises UsageError where there is nothing that changes KVM."""
        return (*(self.on.diffs if self.on else ()), *patch_files.read(self.path))

    @property
    def digest(self) -> str:
        """A hash of what is applied: the same change in another form of mail has the same."""
        text = "".join(each.text for each in self.diffs)
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    @property
    def left_out(self) -> tuple[str, ...]:
        """The files of the patch that cannot change KVM's modules, each once."""
        return tuple(dict.fromkeys(path for each in self.diffs for path in each.left_out))

    @property
    def all_commits(self) -> tuple[str, ...]:
        """The upstream commits that this patch and the one below it carry."""
        return (*(self.on.all_commits if self.on else ()), *self.commits)

    @property
    def label(self) -> str:
        """Return what the kernel's label gets after its `+`."""
        return f"{self.on.label}+{self.name}" if self.on else self.name

    def check_series(self, series: str) -> None:
        """Raise UsageError where the patch is not for this kernel series."""
        if self.series and series not in self.series:
            raise UsageError(f"patch '{self.name}' is for kernel {', '.join(self.series)}, not for {series}")


def named() -> dict[str, Patch]:
    """Return the project's own patches, by name, from tooling/patches/patches.toml."""
    rows = tomllib.loads((FOLDER / "patches.toml").read_text())["patches"]
    patches = (
        Patch(
            row["name"], FOLDER / f"{row['name']}.patch", row["era"], tuple(row["series"]), tuple(row["commits"]),
            row["description"],
        )
        for row in rows
    )  # fmt: skip
    return {patch.name: patch for patch in patches}


def find(text: str) -> Patch:
    """Return the patch of that name, or the patch file at that path; UsageError where there is neither."""
    own = named()
    if text in own:
        return own[text]
    path = Path(text).expanduser()
    if path.is_file():
        return _from_file(path.resolve())
    if path.is_dir():
        return Patch(path.resolve().name, path.resolve())
    if "/" in text or path.suffix:
        raise UsageError(f"there is no patch file {path}")
    raise UsageError(
        f"there is no patch named '{text}'; named ones: {', '.join(sorted(own))}; or give a path to a file"
    )


def head(path: Path) -> Message:
    """The `Name: text` lines of ours at the beginning of a patch file, which a tool that applies it passes over.

    The header of a mail is none of ours, whatever names are in it. UsageError where the file cannot be read.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    found = email.parser.Parser().parsestr(text, headersonly=True)
    return Message() if mail.is_mail(found) else found


def _from_file(path: Path) -> Patch:
    """Return the patch in a file. `Host: 5.10+warning` in its head names its series and our patch below it."""
    text = head(path)["Host"]
    if text is None:
        return Patch(path.stem, path)
    host = host_spec.parse(text.strip())
    under = named().get(host.patch) if host.patch else None
    if host.kind != "debian" or (host.patch and under is None):
        raise UsageError(f"{path} is said to be for host '{text}': that is no series with or without a named patch")
    return Patch(path.stem, path, era=under.era if under else None, series=(series_of(host.base),), on=under)
