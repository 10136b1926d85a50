"""Running programs: a plain user's PATH has no /usr/sbin, and depmod lies there."""

import pytest
from cpuidlab.base import command
from cpuidlab.base.errors import UsageError


def test_programs_of_sbin_are_found_without_it_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert "depmod" in command.run(["depmod", "--help"])
    assert "depmod" in command.run(["depmod", "--help"], env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"})


def test_a_missing_program_is_told() -> None:
    with pytest.raises(UsageError, match="no-such-program is not installed"):
        command.run(["no-such-program"])
