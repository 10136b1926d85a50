"""The cache: what a killed run has left half made goes, what a live one is making stays."""

from pathlib import Path

import pytest
from cpuidlab import store
from filelock import FileLock


def test_leftovers_go_and_live_work_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    parent = tmp_path / "kvm-cpuid-lab/rigs"
    for name in ("dead", "live"):
        (parent / f"{name}.partial").mkdir(parents=True)
    with FileLock(str(parent / "live.lock")):
        made = store.made("rigs", "new", {}, lambda folder: (folder / "file").write_text("") and None)
    assert (made / "file").is_file()
    assert sorted(path.name for path in parent.glob("*.partial")) == ["live.partial"]
