"""What a host is predicted to promise, and who says so: the user, its patch, the user's table, its vendor, its version.

Where nobody knows, the era is None, and what the kernel shows when it is asked decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from cpuidlab.base import user_table
from cpuidlab.base.errors import UsageError
from cpuidlab.judge import eras, history
from cpuidlab.judge.eras import REINIT, Era
from cpuidlab.kernels import host_spec, patches, vendors
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.kernels.vendors import Vendor
from cpuidlab.kernels.version import Place, is_version, place, point_text, series, upstream

TABLE = "releases"  # [releases] in eras.toml: "*.el9*" = "forbid-changed"
USER, PATCH, OWN_TABLE, VENDOR = "--era", "patch", "user's table", "vendor rule"
# What a version can be, by the kind of its place in upstream's history.
VERSIONS = {
    "release": "upstream version",
    "series": "upstream version",
    "candidate": "candidate",
    "after": "development tree",
    "next": "linux-next",
}


@dataclass(frozen=True)
class Prediction:
    """The era that a kernel is predicted to belong to, or None where that is not known.

    `basis` is the kind of rule that says so, `why` its reason in one clause. `among` are the eras that are possible:
    just `era` where it is known. `properties` are those of eras.toml, False or None (unknown) where not True.
    """

    era: Era | None
    basis: str
    why: str
    among: tuple[Era, ...]
    properties: Mapping[str, bool | None]

    @property
    def name(self) -> str:
        """The era's name; "unknown" where there is none."""
        return self.era.name if self.era else "unknown"

    @property
    def named(self) -> str:
        """The name of the era that the user has named with --era; "" where it is another rule that predicts."""
        return self.among[0].name if self.basis == USER else ""

    @property
    def reinit(self) -> bool | None:
        """Whether each CPUID update initializes the MMUs anew (49c6f8756cdf); None where nobody knows."""
        return self.properties[REINIT]

    def told(self, host: str) -> str:
        """What is special about the prediction for `host`, for people; empty where the version alone gives it."""
        if self.era is None:
            return f"no prediction for {host}: {self.why}"
        if self.basis in (USER, PATCH, OWN_TABLE):
            return f"era {self.era.name} of {host} is named by {self.why}"
        return ""


def predicted(kernel: Kernel, named: str = "", table: str = "") -> Prediction:
    """What `kernel` is predicted to promise: the era `named` by the user, that of its patch, that of the first pattern
    in the user's table that fits its release, that of its vendor, else that of its version."""
    found = _predicted(kernel, named, table)
    # a later era implies the re-initialization, whatever the version says: a backport brings both
    among = tuple(
        replace(each, reinit=each.reinit or found.reinit, properties=found.properties) for each in found.among
    )
    return replace(found, era=among[0] if found.era else None, among=among)


def _predicted(kernel: Kernel, named: str, table: str) -> Prediction:
    name = host_spec.parse(kernel.spec).patch
    patch = patches.find(name) if name else None
    has = _properties(kernel.release, kernel.version)
    if patch and _reinit_commits() & set(patch.all_commits):
        has[REINIT] = True
    if named:
        return _named(named, USER, "--era", has)
    if patch and patch.era:
        return _named(patch.era, PATCH, f"the patch '{name}'", has)
    return replace(of_release(kernel.release, kernel.version, table), properties=has)


def of_release(release: str, version: str, table: str | None = "") -> Prediction:
    """What a kernel without a patch is predicted to promise, by its release and the version of its package.

    `table` is the user's, "" for the one that need not exist, None for none. Raises UsageError where the version cannot
    be read.
    """
    has = _properties(release, version)
    if table is not None and (own := _by_table(release, table, has)):
        return own
    vendor = vendors.vendor_of(release)
    if vendor and vendor.kvm != "upstream":
        return _by_vendor(vendor, has)
    return _by_version(_place(vendor, version), vendor, has)


def _place(vendor: Vendor | None, version: str) -> Place:
    lies = place(version)
    hidden = vendor is not None and vendor.hides and lies.kind == "release" and not upstream(version)[2]
    return series(version) if hidden else lies


def place_of(release: str, version: str) -> Place | None:
    """Where KVM of a release lies in upstream's history; None where its vendor rebases KVM or no version is known."""
    vendor = vendors.vendor_of(release)
    if not is_version(version) or (vendor and vendor.kvm == "rebased"):
        return None
    return _place(vendor, version)


def _properties(release: str, version: str) -> dict[str, bool | None]:
    lies = place_of(release, version)
    return {each.name: each.of(lies) if lies else None for each in eras.properties()}


def _by_table(release: str, table: str, has: Mapping[str, bool | None]) -> Prediction | None:
    file = Path(table) if table else default_table()
    for pattern, name in overrides(file, required=bool(table)).items():
        if fnmatchcase(release, pattern):
            return _named(name, OWN_TABLE, f"'{pattern}' in {file}", has)
    return None


def _named(name: str, basis: str, why: str, has: Mapping[str, bool | None]) -> Prediction:
    return Prediction(eras.era(name), basis, why, (eras.era(name),), has)


def _by_vendor(vendor: Vendor, has: Mapping[str, bool | None]) -> Prediction:
    among = tuple(eras.era(name) for name in vendor.eras) or eras.eras()
    rule = "this vendor rebases KVM" if vendor.kvm == "rebased" else "this vendor adds fixes to KVM"
    return Prediction(None, VENDOR, f"{rule}: {vendor.reason}", among, has)


def _by_version(lies: Place, vendor: Vendor | None, has: Mapping[str, bool | None]) -> Prediction:
    found = history.possible(lies)
    among = tuple(one for one, _ in found)
    basis = VERSIONS[lies.kind]
    if len(found) > 1:
        commits = ", ".join(dict.fromkeys(commit for _, part in found[1:] for commit in part.commits))
        return Prediction(None, basis, f"{_where(lies)}, and may have {commits} or not", among, has)
    era, part = found[0]
    if lies.kind in ("release", "series"):
        part = next(each for each in era.releases if lies.first in each)
    where = "" if lies.kind == "release" else f"{_where(lies)}: "
    by = f" ({vendor.name} {vendor.reason})" if vendor else ""
    return Prediction(era, basis, f"{where}upstream range {part.text}{by}", among, has)


def _where(lies: Place) -> str:
    """Where a kernel that is no release lies in upstream's history, in words."""
    first, last = point_text(lies.first), point_text(lies.last)
    if lies.kind == "series":
        return f"the release does not tell which {first}.y"
    if lies.kind == "candidate":
        return f"candidate {first}"
    tree = "linux-next" if lies.kind == "next" else "a tree"
    return f"{tree} of {lies.snapshot}, after {first}" if lies.snapshot else f"{tree} between {first} and {last}"


def _reinit_commits() -> set[str]:
    return {commit for part in eras.property_named(REINIT).ranges for commit in part.commits}


def default_table() -> Path:
    """The user's own eras.toml, which need not exist."""
    return user_table.default("eras.toml")


@cache
def overrides(file: Path, required: bool) -> Mapping[str, str]:
    """Patterns of `uname -r`, as a shell has them, and eras, in the file's order; UsageError where it is not that."""
    table = user_table.read(file, "--eras" if required else "")
    if table is None:
        return {}
    releases = table.get(TABLE)
    if set(table) != {TABLE} or not isinstance(releases, dict):
        raise UsageError(f'{file} should hold one table, [{TABLE}], with lines such as "*.el9*" = "forbid-changed"')
    for pattern, name in releases.items():
        if not isinstance(name, str):
            raise UsageError(f"{file}: '{pattern}' should be the name of an era; a pattern stands in quotes")
        try:
            eras.era(name)
        except UsageError as error:
            raise UsageError(f"{file}: '{pattern}': {error}") from error
    return releases
