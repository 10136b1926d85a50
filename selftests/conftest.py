"""What every selftest shares: no test touches the user's cache, and slow programs are compiled once."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("busy", deadline=None)  # how long an example takes says nothing on a busy machine
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache of its own, which does not exist yet, no mirror of this machine, no user's table."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("CPUIDLAB_KERNELS", "")
    for variable in ("CPUIDLAB_MIRROR", "CPUIDLAB_SECURITY_MIRROR"):
        monkeypatch.delenv(variable, raising=False)
    return home / "kvm-cpuid-lab"
