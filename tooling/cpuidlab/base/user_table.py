"""Read the tables that a user may keep in ~/.config/kvm-cpuid-lab, or names by an option."""

import os
import tomllib
from pathlib import Path
from typing import Any

from cpuidlab.base.errors import UsageError


def default(name: str) -> Path:
    """Return the path of the user's table of that name; it need not exist."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "kvm-cpuid-lab" / name


def read(file: Path, option: str = "") -> dict[str, Any] | None:
    """Return what a TOML file says; None where it is not there, unless an `option` names it.

    Raises UsageError with the file's name where it cannot be read.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if option:
            raise UsageError(f"there is no file {file}, which is named for {option}") from error
        return None
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{file} is no TOML: {error}") from error
