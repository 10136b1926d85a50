"""Patches by name and by path, and what the head of a patch file says of the kernel that it is for."""

from pathlib import Path

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.kernels import patches


def test_every_named_patch_has_its_file() -> None:
    for patch in patches.named().values():
        assert patch.path.is_file() and patch.era and patch.series and patch.commits


def test_missing_patches() -> None:
    with pytest.raises(UsageError, match=r"no patch file /no/such\.patch"):
        patches.find("/no/such.patch")
    with pytest.raises(UsageError, match="named ones: warning"):
        patches.find("warnig")


def test_a_patch_says_in_its_head_what_it_stands_on(tmp_path: Path) -> None:
    path = tmp_path / "fault.patch"
    diff = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
    path.write_text(f"Host: 5.10+warning\n\n{diff}")
    patch = patches.find(str(path))
    assert (patch.era, patch.series, patch.label) == ("warn", ("5.10",), "warning+fault")
    assert [each.text for each in patch.diffs] == [*(each.text for each in patches.find("warning").diffs), diff]
    with pytest.raises(UsageError, match=r"for kernel 5\.10, not for 6\.1"):
        patch.check_series("6.1")
    path.write_text("Host: 6.1\n\n--- a/x\n")
    patch = patches.find(str(path))
    assert (patch.era, patch.series, patch.label, patch.on) == (None, ("6.1",), "fault", None)
    path.write_text("Host: 6.18.5\n\n--- a/x\n")
    assert patches.find(str(path)).series == ("6.18",)
    path.write_text("Subject: a fix\n\n--- a/x\n")
    assert patches.find(str(path)) == patches.Patch("fault", path)


def test_a_patch_that_cannot_be_read_is_told() -> None:
    with pytest.raises(UsageError, match="cannot read /proc/self/mem: Input/output error"):
        patches.head(Path("/proc/self/mem"))


@pytest.mark.parametrize("host", ["5.10+nothing", "local", "nonsense", "5.10+/some.patch"])
def test_a_head_that_names_no_host_of_ours(tmp_path: Path, host: str) -> None:
    path = tmp_path / "fault.patch"
    path.write_text(f"Host: {host}\n\n--- a/x\n")
    with pytest.raises(UsageError):
        patches.find(str(path))
