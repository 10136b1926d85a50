"""The patches that KVM can be rebuilt with: the project's own, by name, and anybody's, by path."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.errors import UsageError
from cpuidlab.paths import TOOLING

FOLDER = TOOLING / "patches"


@dataclass(frozen=True)
class Patch:
    """A patch file. `era` is the era that a kernel with it is predicted to belong to, None if nobody knows; `series`
    are the kernel series that it is written for, empty for any."""

    name: str
    path: Path
    era: str | None = None
    series: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    description: str = ""

    def check_series(self, series: str) -> None:
        """Raise UsageError where the patch is not for this kernel series."""
        if self.series and series not in self.series:
            raise UsageError(f"patch '{self.name}' is for kernel {', '.join(self.series)}, not for {series}")


def named() -> dict[str, Patch]:
    """The project's own patches, by name, from tooling/patches/patches.toml."""
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
    """The patch of that name, or the patch file at that path; UsageError where there is neither."""
    own = named()
    if text in own:
        return own[text]
    path = Path(text).expanduser()
    if path.is_file():
        return Patch(path.stem, path.resolve())
    if "/" in text or path.suffix:
        raise UsageError(f"there is no patch file {path}")
    raise UsageError(
        f"there is no patch named '{text}'; named ones: {', '.join(sorted(own))}; or give a path to a file"
    )
