"""`cpuidlab predict`: the era that a release string promises, and why; and the table of examples in the docs."""

import json
import tomllib
from collections.abc import Sequence
from typing import Any

from cpuidlab.base.paths import PROJECT, TOOLING
from cpuidlab.judge.prediction import Prediction, of_release
from cpuidlab.report.markdown_table import as_table, plain

EXAMPLES = TOOLING / "releases.toml"
PAGE = PROJECT / "docs/predictions.md"
HEAD = """# What is predicted of which kernel

Before a kernel is tested, its release (`uname -r`) tells which era it should belong to (`tooling/eras.toml`). Some
releases tell nothing: where a vendor takes KVM from later versions, or where the release may stand for two kernels of
different eras. There the prediction is *unknown*. The kernel is then asked, and a test passes where its answer fits
one of the eras that are possible.

    .venv/bin/cpuidlab predict 5.15.0-113-generic 6.19.0-rc1

tells it of any release, `--json` as plain data. `reinit` says whether each CPUID update initializes the MMUs anew
(49c6f8756cdf), which decides what becomes of shadow pages.

`tooling/vendors.toml` has the rules for vendors. A table of your own counts more than they and the version
(`~/.config/kvm-cpuid-lab/eras.toml`, or `--eras FILE`):

    [releases]
    "5.14.0-*.el9*" = "forbid-changed"

This page is written by `.venv/bin/cpuidlab predict --page`; its releases stand in `tooling/releases.toml`.
"""
COLUMNS = ("release", "predicted", "reinit", "by", "why")
REINIT = {True: "yes", False: "no", None: "unknown"}


def main(releases: Sequence[str], table: str, as_json: bool) -> int:
    """Print what is predicted of each release; raises UsageError for one that begins with no version."""
    found = {release: of_release(release, release, table) for release in releases}
    if as_json:
        print(json.dumps({"predictions": [_plain(release, each) for release, each in found.items()]}, indent=2))
        return 0
    width = max(map(len, releases))
    for release, each in found.items():
        print(f"{release:{width}}  {each.name:17}  {each.basis}: {each.why}")
    return 0


def write_page() -> int:
    """Write docs/predictions.md anew."""
    PAGE.write_text(page())
    return 0


def page() -> str:
    """The page of docs/predictions.md: the predictions for the releases of releases.toml."""
    lines = [HEAD]
    for group in examples():
        rows = [_row(release) for release, _, _ in group["releases"]]
        lines.append(f"\n## {group['title']}\n\n{as_table([COLUMNS, *rows])}\n")
    return "".join(lines)


def examples() -> list[dict[str, Any]]:
    """The groups of releases.toml: a title, and releases with the era and `reinit` that are expected."""
    groups: list[dict[str, Any]] = tomllib.loads(EXAMPLES.read_text())["group"]
    return groups


def _row(release: str) -> tuple[str, ...]:
    each = of_release(release, release, None)
    return f"`{release}`", each.name, REINIT[each.reinit], each.basis, plain(each.why)


def _plain(release: str, each: Prediction) -> dict[str, object]:
    return {
        "release": release,
        "era": each.era.name if each.era else None,
        "basis": each.basis,
        "why": each.why,
        "possible": [era.name for era in each.among],
        "properties": each.properties,
    }
