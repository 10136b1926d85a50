"""Does `git bisect run` find a commit that breaks a promise? A repository with one, and the bisection of it.

    .venv/bin/python benchmarks/planted.py DIR              make the repository in DIR, bisect it, compare
    .venv/bin/python benchmarks/planted.py DIR --make-only  make it, and say how to bisect it

The repository holds KVM's source of 5.10. Its second commit brings the two warnings of Linux 5.14; after it come
harmless ones, one that does not compile where the bisection looks first, and one that drops the second warning.
"""

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base import command
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.exit_codes import OK, UNTESTED, USAGE
from cpuidlab.base.paths import PROJECT
from cpuidlab.kernels import kbuild, lookup, patches, suites
from cpuidlab.kernels.kbuild import Target

HOST, PATCH = "5.10", "warning"
BASE, GOOD, PLANTED = "base", "good", "planted"  # tags
STEP = PROJECT / "tooling/bisect-step"
WORDS = ("tests/test_after_run.py:AfterRun.test_identical", "--paging", "npt", "--era", "warn", "--cold")
BISECT_SECONDS = 1800
FILE = "arch/x86/kvm/mmu/mmu.c"
AUTHOR = ("-c", "user.name=lab", "-c", "user.email=lab@localhost", "-c", "commit.gpgsign=false")


@dataclass(frozen=True)
class Commit:
    """One that puts `new` in the place of `old` in FILE."""

    subject: str
    old: str
    new: str
    tag: str = ""


NEVER_RUN = "if (vcpu->arch.last_vmentry_cpu == -1)"
HELPER = "static bool kvm_vcpu_is_new(struct kvm_vcpu *vcpu)\n{\n\treturn vcpu->arch.last_vmentry_cpu < 0;\n}\n\n"
SECOND = '\tpr_warn_ratelimited("KVM: KVM_SET_CPUID{,2} will fail after KVM_RUN starting with Linux 5.16\\n");\n'
HEAD = "/*\n * A new CPUID may change the guest's reserved bits"
COMMITS = (
    Commit("Say that the warning comes each time", "hence the warning.\n", "hence a warning each time.\n"),
    Commit("No CPU yet is any negative number", NEVER_RUN, "if (vcpu->arch.last_vmentry_cpu < 0)"),
    Commit("Say where the limit is", "\tpr_warn_ratelimited(", "\t/* ten in five seconds */\n\tpr_warn_ratelimited("),
    Commit("Ask a helper (does not compile)", "if (vcpu->arch.last_vmentry_cpu < 0)", "if (kvm_vcpu_is_new(vcpu))"),
    Commit("Bring the helper along", HEAD, HELPER + HEAD),
    Commit("One warning is enough", SECOND, "", PLANTED),
    Commit("New vCPUs are the usual case", "if (kvm_vcpu_is_new(vcpu))", "if (likely(kvm_vcpu_is_new(vcpu)))"),
    Commit("Inline the helper", "static bool kvm_vcpu_is_new", "static inline bool kvm_vcpu_is_new"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 where the planted commit is found, 1 where another is, 125 where the bisection does not end well."""
    parser = argparse.ArgumentParser(description="Does git bisect run find a commit that breaks a promise?")
    parser.add_argument("folder", type=Path, help="where to make the repository")
    parser.add_argument("--make-only", action="store_true", help="make it, and say how to bisect it")
    options = parser.parse_args(arguments)
    try:
        make(pristine(), options.folder)
        if not options.make_only:
            return bisect(options.folder)
    except (UsageError, LabError) as error:
        print(f"planted: {error}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else UNTESTED
    print(f"cd {options.folder}\ngit bisect start HEAD {GOOD}\n{shlex.join(['git', 'bisect', 'run', *step()])}")
    return OK


def step() -> list[str]:
    """The command that git runs at each commit."""
    return [str(STEP), f"{HOST}+{BASE}..", *WORDS]


def pristine() -> Path:
    """KVM's source of the host's kernel, as Debian has it."""
    kernel = lookup.resolve(HOST)
    suite = suites.suite_named(kernel.suite)
    return kbuild.tree_of(Target(kernel.release, kernel.version, suite, kernel.modules)).pristine


def make(source: Path, folder: Path) -> None:
    """Make the repository in `folder`, which must not be there, from KVM's source."""
    if folder.exists():
        raise UsageError(f"{folder} is there already; name a new folder")
    shutil.copytree(source, folder)
    git(folder, "init", "-q")
    _commit(folder, "KVM of Debian's kernel", BASE)
    for diff in patches.find(PATCH).diffs:
        kbuild.apply(diff, folder)
    _commit(folder, "Warn when CPUID is set after KVM_RUN", GOOD)
    for commit in COMMITS:
        text = (folder / FILE).read_text()
        if commit.old not in text:
            raise LabError(f"'{commit.subject}' does not fit into {FILE} of {HOST} any more")
        (folder / FILE).write_text(text.replace(commit.old, commit.new, 1))
        _commit(folder, commit.subject, commit.tag)


def bisect(folder: Path) -> int:
    """Bisect, and compare what git finds with what was planted."""
    started = time.monotonic()
    git(folder, "bisect", "start", "HEAD", GOOD)
    said = git(folder, "bisect", "run", *step())
    log = git(folder, "bisect", "log")
    found = git(folder, "rev-parse", "refs/bisect/bad").strip()
    print("\n".join(line for line in log.splitlines() if line.startswith("#")))
    if "is the first bad commit" not in said or found != git(folder, "rev-parse", PLANTED).strip():
        print(f"NOT FOUND: git says {found}; see {folder}")
        return 1
    print(f"FOUND the planted commit {found[:12]} in {time.monotonic() - started:.0f} s")
    return 0


def git(folder: Path, *words: str) -> str:
    """What git says."""
    return command.run(["git", *AUTHOR, *words], cwd=folder, seconds=BISECT_SECONDS)


def _commit(folder: Path, subject: str, tag: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", subject)
    if tag:
        git(folder, "tag", tag)


if __name__ == "__main__":
    sys.exit(main())
