"""Rebuild KVM's modules with a patch, from Debian's source and headers of exactly the kernel that they are for.

Only arch/x86/kvm and virt/kvm are compiled. Each kernel's tree is kept, so that the next patch compiles just what it
touches. make finds that by time stamps, so the tree is never moved or copied.
"""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from filelock import FileLock

from cpuidlab.base import artifacts, command
from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.kernels import buildtree, toolchain
from cpuidlab.kernels.patch_files import Diff
from cpuidlab.kernels.suite import Suite

RECIPE = "1"  # raised when the same patch on the same kernel gives other modules
TREES = Kind("kbuild", cost=180)
TREE_RECIPE = "1"  # raised when _unpack makes another tree of the same packages
BUILD_SECONDS = 1200  # 35 s on two cores

# What of the kernel's source is unpacked and can be patched: KVM and the headers that only KVM's modules share.
SOURCES = (
    "arch/x86/kvm", "virt/kvm", "arch/x86/include/asm/kvm*.h", "arch/x86/include/uapi/asm/kvm*.h",
    "include/linux/kvm*.h", "include/uapi/linux/kvm*.h", "include/trace/events/kvm.h",
)  # fmt: skip
# Debug information is stripped anyway; warnings of a compiler newer than the source are not errors in it.
# BTF would need the kernel's vmlinux with its debug information.
OPTIONS = ("CONFIG_DEBUG_INFO=", "CONFIG_DEBUG_INFO_BTF_MODULES=", "CONFIG_KVM_WERROR=", "CONFIG_WERROR=")


@dataclass(frozen=True)
class Target:
    """The kernel whose KVM is rebuilt: release, package version, the suite it came from, its lib/modules/RELEASE."""

    release: str
    version: str
    suite: Suite
    modules: Path


@dataclass(frozen=True)
class Tree:
    """An unpacked build tree: `pristine` is the source as released, `common` holds the copy that is compiled."""

    folder: Path

    @property
    def pristine(self) -> Path:
        return self.folder / "pristine"

    @property
    def common(self) -> Path:
        return self.folder / "usr/src/common"

    @property
    def headers(self) -> Path:
        return self.folder / "usr/src/headers"

    @property
    def unfinished(self) -> Path:
        """Exists while make runs: where it is found, a build was killed and may have left half an object."""
        return self.folder / "unfinished"


def tree_of(target: Target) -> Tree:
    """Return the tree that KVM of this kernel is compiled in, fetched where it is not in the cache yet."""
    inputs = {"version": target.version, "release": target.release, "recipe": TREE_RECIPE, **target.suite.inputs}
    return Tree(artifacts.made(TREES, target.release, inputs, lambda folder: _unpack(target, folder)))


def rebuild(target: Target, diffs: Sequence[Diff], into: Path) -> None:
    """Fill `into` with lib/modules/RELEASE where the KVM modules are built with the diffs, one on the other.

    Raises UsageError where the patch does not apply or compile, LabError where the build itself fails.
    """
    tree = tree_of(target)
    source = into / "source"
    shutil.copytree(tree.pristine, source)
    for diff in diffs:
        if diff.text:
            apply(diff, source)
    with FileLock(str(tree.folder) + ".lock", timeout=artifacts.LOCK_SECONDS):
        _sync(source, tree.common)
        _compile(tree, target, diffs[-1].name)
        _install(tree, target, into)
    shutil.rmtree(source)


def apply(diff: Diff, source: Path) -> None:
    """Apply a diff to a source folder; UsageError with the file and hunk that do not fit."""
    env = {**os.environ, **buildtree.ENGLISH}
    with NamedTemporaryFile(suffix=".patch") as file:
        file.write(diff.text.encode(errors="surrogateescape"))
        file.flush()
        line = ["patch", "-p1", "-f", "-r", "-", "--no-backup-if-mismatch", "-d", str(source), "-i", file.name]
        try:
            command.run([*line, "--dry-run"], seconds=60, env=env)
        except LabError as error:
            raise UsageError(f"patch {diff.name} does not apply: {_reject(error.evidence)}") from error
        command.run(line, seconds=60, env=env)


def depmod(root: Path, release: str) -> None:
    """Write modules.dep and its companions for ROOT/lib/modules/RELEASE."""
    command.run(["depmod", "-b", str(root), release], seconds=120)


def _reject(output: str) -> str:
    """Return in one line why `patch` failed."""
    failed = re.search(r"(?:checking|patching) file (\S+)\n(?:(?!checking|patching).*\n)*?Hunk #(\d+) FAILED", output)
    if failed:
        return f"hunk {failed[2]} of {failed[1]} does not fit"
    missing = re.search(r"can't find file to patch(?:.*\n)*?\|--- (?:a/)?(\S+)", output)
    if missing:
        return f"{missing[1]} is not part of KVM's source, which alone is rebuilt"
    complaint = re.search(r"\*\*\*\* (.*)", output)
    return complaint[1] if complaint else command.last_line(output)


def _unpack(target: Target, folder: Path) -> None:
    """Lay out headers, common headers, kbuild's tools and KVM's source as one tree that can be moved."""
    roles = (*buildtree.HEADERS, "source")
    buildtree.unpack(target.release, target.version, target.suite, roles, folder)
    src = folder / "usr/src"
    archive = next(src.glob("linux-source-*.tar.xz"))
    pristine = folder / "pristine"
    pristine.mkdir()
    patterns = [f"*/{name}" for name in SOURCES]
    only = ["--strip-components=1", "--wildcards", "--no-wildcards-match-slash", *patterns]
    command.run(["tar", "-C", str(pristine), "-xf", str(archive), *only], seconds=300)
    archive.unlink()
    # KVM's Makefile may name its folder relative to the folder that make runs in.
    (src / "headers/arch/x86/kvm").symlink_to("../../../common/arch/x86/kvm")


def _sync(source: Path, into: Path) -> None:
    """Make the compiled copy equal to `source`, touching only files that differ, so that make sees what changed."""
    for path in source.rglob("*"):
        if path.is_dir():
            continue
        copy = into / path.relative_to(source)
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for folder in ("arch/x86/kvm", "virt/kvm"):
        for copy in (into / folder).rglob("*.[chS]"):  # a file that an earlier patch added
            if not (source / copy.relative_to(into)).exists() and not copy.name.endswith(".mod.c"):
                copy.unlink()


def _compile(tree: Tree, target: Target, patch: str) -> None:
    buildtree.mend(tree.folder)  # the tree has got its final place only now
    kvm = tree.common / "arch/x86/kvm"
    make = toolchain.command(tree.folder, target.release, ["make", "-C", str(tree.headers), f"M={kvm}", *OPTIONS])
    if tree.unfinished.exists():
        command.run([*make, "clean"], seconds=120)
    tree.unfinished.touch()
    try:
        jobs = len(os.sched_getaffinity(0))
        command.run([*make, f"-j{jobs}", "modules"], seconds=BUILD_SECONDS, env={**os.environ, **buildtree.ENGLISH})
    except LabError as error:
        log = tree.folder / "build.log"
        log.write_text(error.evidence)
        reason = buildtree.first_error(error.evidence, tree.common)
        if reason is None:
            raise LabError(f"KVM of {target.release} cannot be built: {error}", error.evidence) from error
        tree.unfinished.unlink()  # make ended by itself and took away what did not compile
        raise UsageError(f"patch {patch} does not compile on {target.release}: {reason} (all of it: {log})") from error
    tree.unfinished.unlink()


def _install(tree: Tree, target: Target, into: Path) -> None:
    """Copy the kernel's modules (the files are shared, as hard links) and put the rebuilt ones in their places."""
    modules = into / "lib/modules" / target.release
    shutil.copytree(target.modules, modules, copy_function=_link_or_copy)
    folder = modules / "kernel/arch/x86/kvm"
    for built in sorted((tree.common / "arch/x86/kvm").glob("*.ko")):
        original = next(iter(folder.glob(built.name + "*")), None)
        if original is None:
            continue
        if _vermagic(built) != _vermagic(original):
            raise LabError(f"{built.name} was built for {_vermagic(built)!r}, the kernel is {_vermagic(original)!r}")
        original.unlink()
        command.run(["strip", "--strip-debug", "-o", str(folder / built.name), str(built)], seconds=60)
    depmod(into, target.release)


def _link_or_copy(source: str, target: str) -> None:
    """Share module files, which nobody writes to; copy the lists that depmod writes anew."""
    if ".ko" in Path(source).name:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _vermagic(module: Path) -> str:
    return command.run(["modinfo", "-F", "vermagic", str(module)], seconds=30).strip()
