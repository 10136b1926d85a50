"""Kernels looked up: which build a host spec stands for, what is pinned, and what cannot be had; no network."""

from pathlib import Path

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.kernels import lookup
from fakearchive import Archive, archive_of_three


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Archive:
    archive = archive_of_three()
    archive.put_in(monkeypatch)
    return archive


def test_newest_build_of_a_series_is_pinned(archive: Archive) -> None:
    first = lookup.resolve("5.10")
    assert (first.label, first.release, first.version) == ("5.10", "5.10.0-46-cloud-amd64", "5.10.262-1")
    assert first.vmlinuz.read_text() == "kernel"
    assert first.modules.name == first.release and first.modules.is_dir()
    archive.lists["bullseye-security"]["linux-image-5.10.0-47-cloud-amd64"] = ["5.10.270-1"]
    archive.asked.clear()
    assert lookup.resolve("5.10") == first
    assert archive.asked == []
    assert lookup.resolve("5.10", refresh=True).version == "5.10.270-1"


def test_exact_point_release(archive: Archive) -> None:
    assert lookup.resolve("5.10.259").release == "5.10.0-45-cloud-amd64"


def test_newest_is_the_newest_that_boots(archive: Archive) -> None:
    archive.lists["experimental"] = {"linux-image-7.4.0-cloud-amd64": ["7.4~rc1-1~exp1"]}
    kernel = lookup.resolve("newest")
    assert (kernel.spec, kernel.label) == ("newest", "6.18")


def test_a_build_that_left_the_mirror_is_chosen_anew(archive: Archive) -> None:
    archive.gone = {"linux-image-5.10.0-46-cloud-amd64"}
    assert lookup.resolve("5.10").version == "5.10.259-1"


def test_series_without_modules_says_so(archive: Archive) -> None:
    with pytest.raises(UsageError, match=r"kernel 7\.1 cannot be used: .* no package linux-modules-7\.1\.3"):
        lookup.resolve("7.1")


@pytest.mark.parametrize("spec", ["4.19", "5.10.1"])
def test_unknown_kernel_after_a_fresh_look(archive: Archive, spec: str) -> None:
    with pytest.raises(UsageError, match=f"no build of kernel {spec}"):
        lookup.resolve(spec)
    assert archive.asked[-1][1] == 0


@pytest.mark.parametrize("spec", ["local", "ssh://a@b"])
def test_hosts_that_are_not_there_yet(spec: str) -> None:
    with pytest.raises(UsageError, match="not supported yet"):
        lookup.resolve(spec)


def test_named_patch_only_for_its_series(archive: Archive) -> None:
    with pytest.raises(UsageError, match=r"'warning' is for kernel 5\.10, not for 6\.18"):
        lookup.resolve("6.18+warning")
    assert archive.asked == []


def test_cache_that_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set XDG_CACHE_HOME"):
        lookup.resolve("5.10")
