"""Where the cache is."""

from pathlib import Path

import pytest
from cpuidlab.base.paths import cache_dir


@pytest.mark.parametrize("base", ["", "relative/folder"])
def test_a_relative_cache_counts_as_none(base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    assert cache_dir() == tmp_path / ".cache/kvm-cpuid-lab"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "kvm-cpuid-lab"
