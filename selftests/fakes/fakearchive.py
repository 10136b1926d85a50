"""Debian's archive without a network: suites with package lists, and packages that unpack to a kernel."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.kernels import aptfetch, kbuild
from cpuidlab.kernels.suite import Suite


def both(release: str, version: str, *parts: str) -> dict[str, list[str]]:
    """The package list entries of a release in the split layout."""
    return {f"linux-{part}-{release}-cloud-amd64": [version] for part in ("image", *parts)}


class Archive:
    """Stands for aptfetch; notes which suites were asked for, and how old their lists might be."""

    def __init__(self) -> None:
        self.lists: dict[str, dict[str, list[str]]] = {}
        self.asked: list[tuple[str, float]] = []
        self.gone: set[str] = set()
        self.offline = False

    def packages(self, suite: Suite, max_age: float = aptfetch.FRESH_SECONDS) -> dict[str, list[str]]:
        self.asked.append((suite.name, max_age))
        if self.offline:
            raise LabError("no network")
        if max_age == 0:
            self.gone_are_known()
        return self.lists.get(suite.name, {})

    def known_packages(self, suite: Suite) -> dict[str, list[str]]:
        return self.lists.get(suite.name, {})

    def gone_are_known(self) -> None:
        for packages in self.lists.values():
            for name in self.gone & packages.keys():
                del packages[name]

    def fetch(self, suite: Suite, wanted: Mapping[str, str], into: Path) -> None:
        for name in wanted:
            if name in self.gone:
                raise LabError(f"404 {name}")
            release = name.removeprefix("linux-image-")
            (into / "boot").mkdir(parents=True)
            (into / "boot" / f"vmlinuz-{release}").write_text("kernel")
            (into / "lib/modules" / release / "kernel").mkdir(parents=True)

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have this archive asked instead of apt."""
        monkeypatch.setattr(aptfetch, "packages", self.packages)
        monkeypatch.setattr(aptfetch, "known_packages", self.known_packages)
        monkeypatch.setattr(aptfetch, "fetch", self.fetch)
        monkeypatch.setattr(kbuild, "depmod", lambda root, release: None)


def archive_of_three() -> Archive:
    """An archive with two builds of 5.10, one of 6.18, and one of 7.1 that lacks its modules."""
    archive = Archive()
    archive.lists["bullseye-security"] = {
        "linux-image-5.10.0-45-cloud-amd64": ["5.10.259-1"],
        "linux-image-5.10.0-46-cloud-amd64": ["5.10.262-1"],
    }
    archive.lists["trixie-backports"] = both("7.1.3", "7.1.3-1", "binary") | both("6.18.5", "6.18.5-1")
    return archive
