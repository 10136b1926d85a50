"""Patches that fit or do not, and the care around make; nothing is compiled."""

import difflib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from cpuidlab.base import command
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.kernels import buildtree, kbuild, patches
from cpuidlab.kernels.patch_files import Diff
from cpuidlab.kernels.suite import Suite

BEFORE = "".join(f"line {number}\n" for number in range(1, 21))
AFTER = BEFORE.replace("line 10\n", "line ten\n")


def diff(path: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{path}", f"b/{path}")
    return "".join(lines)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "virt/kvm").mkdir(parents=True)
    (folder / "virt/kvm/kvm_main.c").write_text(BEFORE)
    return folder


def patch_of(tmp_path: Path, text: str) -> Diff:
    path = tmp_path / "my.patch"
    path.write_text(text)
    (found,) = patches.find(str(path)).diffs
    return found


def test_patch_that_fits(tmp_path: Path, source: Path) -> None:
    kbuild.apply(patch_of(tmp_path, diff("virt/kvm/kvm_main.c", BEFORE, AFTER)), source)
    assert (source / "virt/kvm/kvm_main.c").read_text() == AFTER


def test_patch_that_does_not_fit_names_file_and_hunk(tmp_path: Path, source: Path) -> None:
    text = diff("virt/kvm/kvm_main.c", BEFORE, AFTER).replace(" line 9\n", " other 9\n").replace("-line 10", "-other")
    with pytest.raises(UsageError, match=r"my\.patch does not apply: hunk 1 of virt/kvm/kvm_main\.c does not fit"):
        kbuild.apply(patch_of(tmp_path, text), source)
    assert (source / "virt/kvm/kvm_main.c").read_text() == BEFORE


def test_patch_that_is_in_already(tmp_path: Path, source: Path) -> None:
    patch = patch_of(tmp_path, diff("virt/kvm/kvm_main.c", BEFORE, AFTER))
    kbuild.apply(patch, source)
    with pytest.raises(UsageError, match=r"hunk 1 of virt/kvm/kvm_main\.c does not fit"):
        kbuild.apply(patch, source)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (diff("mm/slab.c", BEFORE, AFTER), "mm/slab.c is not part of KVM's source"),
        ("no patch at all\n", "is empty: it changes no file"),
    ],
)
def test_patch_that_is_none_of_ours(tmp_path: Path, source: Path, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        kbuild.apply(patch_of(tmp_path, text), source)


def test_warning_patch_holds_the_two_lines() -> None:
    text = patches.find("warning").path.read_text()
    for line in (
        "KVM: KVM_SET_CPUID{,2} after KVM_RUN may cause guest instability",
        "KVM: KVM_SET_CPUID{,2} will fail after KVM_RUN starting with Linux 5.16",
    ):
        assert f'+\tpr_warn_ratelimited("{line}\\n");' in text


def test_sync_touches_only_what_differs(tmp_path: Path, source: Path) -> None:
    copy = tmp_path / "copy"
    (source / "virt/kvm/same.c").write_text("same")
    kbuild._sync(source, copy)
    for path in (copy / "virt/kvm").iterdir():
        os.utime(path, (1, 1))
    (copy / "virt/kvm/added.c").write_text("by an earlier patch")
    (copy / "virt/kvm/object.o").write_text("made by make")
    (source / "virt/kvm/kvm_main.c").write_text(AFTER)
    kbuild._sync(source, copy)
    assert (copy / "virt/kvm/kvm_main.c").read_text() == AFTER
    assert (copy / "virt/kvm/kvm_main.c").stat().st_mtime > 1
    assert (copy / "virt/kvm/same.c").stat().st_mtime == 1
    assert not (copy / "virt/kvm/added.c").exists()
    assert (copy / "virt/kvm/object.o").exists()


class Make:
    """Stands for make: notes its goals and fails with the given output."""

    def __init__(self) -> None:
        self.goals: list[str] = []
        self.output = ""

    def run(self, line: list[str], **_: object) -> str:
        self.goals.append(line[-1])
        if self.output and line[-1] == "modules":
            raise LabError("make failed with exit code 2", evidence=self.output)
        return ""


TARGET = kbuild.Target("5.10.0-1-cloud-amd64", "5.10.1-1", Suite("s", "main"), Path("/nowhere"))


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    fake = Make()
    monkeypatch.setattr(command, "run", fake.run)
    monkeypatch.setattr(buildtree, "compiler", lambda folder: "gcc")
    return fake


@pytest.fixture
def tree(tmp_path: Path) -> kbuild.Tree:
    tree = kbuild.Tree(tmp_path / "tree")
    tree.headers.mkdir(parents=True)
    (tree.headers / "Makefile").write_text("include /usr/src/linux-headers-common/Makefile\n")
    return tree


def test_include_is_mended(tree: kbuild.Tree, make: Make) -> None:
    kbuild._compile(tree, TARGET, "my.patch")
    assert (tree.headers / "Makefile").read_text() == f"include {tree.common}/Makefile\n"
    assert make.goals == ["modules"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("COMMON/arch/x86/kvm/mmu/mmu.c:9:2: error: no such thing", "arch/x86/kvm/mmu/mmu.c:9:2: error: no such thing"),
        ("COMMON/arch/x86/kvm/../../../virt/kvm/a.c:1:2: fatal error: x.h: No", "virt/kvm/a.c:1:2: fatal error: x.h"),
        ('ERROR: modpost: "thing" [kvm.ko] undefined!', 'ERROR: modpost: "thing"'),
    ],
)
def test_patch_that_does_not_compile(tree: kbuild.Tree, make: Make, said: str, told: str) -> None:
    make.output = f"a.c:1:1: warning: fine\n{said.replace('COMMON', str(tree.common))}\nmore\n"
    with pytest.raises(UsageError) as caught:
        kbuild._compile(tree, TARGET, "my.patch")
    assert f"my.patch does not compile on {TARGET.release}: {told}" in str(caught.value)
    assert (tree.folder / "build.log").read_text() == make.output
    make.output = ""
    kbuild._compile(tree, TARGET, "my.patch")
    assert make.goals == ["modules", "modules"]


def test_failure_that_is_not_the_patchs_cleans_up_next_time(tree: kbuild.Tree, make: Make) -> None:
    make.output = "make: not enough memory\n"
    with pytest.raises(LabError, match=f"KVM of {TARGET.release} cannot be built"):
        kbuild._compile(tree, TARGET, "my.patch")
    make.output = ""
    kbuild._compile(tree, TARGET, "my.patch")
    assert make.goals == ["modules", "clean", "modules"]
    kbuild._compile(tree, TARGET, "my.patch")
    assert make.goals[-2:] == ["modules", "modules"]


def test_an_empty_patch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is empty"):
        patch_of(tmp_path, "")


def test_a_suite_of_the_users_has_a_tree_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kbuild, "_unpack", lambda target, folder: None)
    own = replace(TARGET, suite=Suite("s", mirror="http://m.example/x", table="/a/kernels.toml"))
    assert kbuild.tree_of(TARGET).folder != kbuild.tree_of(own).folder
