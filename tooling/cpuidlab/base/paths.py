"""Find the project's own folders and the user's cache."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
TOOLING = PROJECT / "tooling"
GUESTS = PROJECT / "guests"


def cache_dir() -> Path:
    """Return the project's folder in the XDG cache; it need not exist yet. RuntimeError where the user has no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):  # what is relative counts as not set (XDG Base Directory Specification)
        base = str(Path.home() / ".cache")
    return Path(base) / "kvm-cpuid-lab"
