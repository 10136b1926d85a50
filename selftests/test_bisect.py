"""`git bisect run` with tooling/bisect-step: exit codes, and the planted commit, with a stand-in for avocado."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import PROJECT
from cpuidlab.kernels import patches

sys.path.insert(0, str(PROJECT / "benchmarks"))
import planted

# What tests would find: a patch without the second line is bad, one with an unknown function does not compile.
AVOCADO = r"""#!/bin/sh
echo "$@" >>"$0.log"
[ -z "$ANSWER" ] || exit "$ANSWER"
for host; do :; done
patch=${host#*+}
[ -s "$patch" ] || exit 2
added=$(sed -n 's/^+//p' "$patch")
case $added in *"if (kvm_vcpu_is_new"*|*"likely(kvm_vcpu_is_new"*)
    case $added in *"bool kvm_vcpu_is_new"*) ;; *) exit 2 ;; esac ;;
esac
case $added in *"will fail after KVM_RUN"*) exit 0 ;; esac
exit 1
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    for name in (".venv/bin", "tooling", "bin"):
        (folder / name).mkdir(parents=True)
    shutil.copy(planted.STEP, folder / "tooling")
    (folder / ".venv/bin/avocado").write_text(AVOCADO)
    (folder / ".venv/bin/avocado").chmod(0o755)
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The repository that the command makes, of just those lines of KVM that the patch needs."""
    source = tmp_path / "source"
    for part in patches.find("warning").path.read_text().split("--- a/")[1:]:
        head, *lines = part.splitlines()
        file = source / head
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line[1:]}\n" for line in lines if line[:1] in (" ", "-")))
    planted.make(source, tmp_path / "repository")
    return tmp_path / "repository"


def step(lab: Path, cwd: Path, *words: str, answer: str = "") -> int:
    environment = {"PATH": f"{lab}/bin:/usr/bin:/bin", "ANSWER": answer}
    command = [lab / "tooling/bisect-step", *words]
    return subprocess.run(command, cwd=cwd, env=environment, check=False, capture_output=True).returncode


@pytest.mark.parametrize(
    ("answer", "code"), [("0", 0), ("1", 1), ("2", 125), ("4", 125), ("125", 125), ("130", 130), ("143", 143)]
)
def test_each_answer_in_gits_words(answer: str, code: int, lab: Path, repository: Path) -> None:
    assert step(lab, repository, "5.10+base..", answer=answer) == code


def test_what_is_tested(lab: Path, repository: Path) -> None:
    assert step(lab, repository / "arch", "5.10+base..", "tests/x.py", "--paging", "npt") == 1
    patch = repository / ".git/bisect.patch"
    assert "+++ b/arch/x86/kvm/mmu/mmu.c" in patch.read_text()
    log = lab / ".venv/bin/avocado.log"
    assert log.read_text() == f"run tests/x.py --paging npt --hosts 5.10+{patch}\n"
    log.unlink()
    step(lab, repository, "6.1")
    assert log.read_text() == "run tests/ --hosts 6.1\n"


@pytest.mark.parametrize("host", ["5.10+nosuchcommit..", "5.10+HEAD..", "tree:/no/such"])
def test_what_cannot_be_tested_is_skipped(host: str, lab: Path, repository: Path) -> None:
    assert step(lab, repository, host) == 125


@pytest.mark.parametrize(("fails", "code"), [("", 0), ("olddefconfig", 125), ("modules", 125)])
def test_a_tree_is_built_first(fails: str, code: int, lab: Path, tmp_path: Path) -> None:
    make = lab / "bin/make"
    make.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/made\ncase "$*" in *{fails or "nothing"}) exit 2 ;; esac\n')
    make.chmod(0o755)
    tree = tmp_path / "linux"
    tree.mkdir()
    assert step(lab, tree, "tree:.", "tests/", answer="0") == code
    log = lab / ".venv/bin/avocado.log"
    assert (log.exists() and log.read_text()) == (False if code else f"run tests/ --hosts tree:{tree}\n")
    assert (tmp_path / "made").read_text().startswith("olddefconfig\n")


def test_git_finds_the_planted_commit_past_one_that_does_not_compile(
    lab: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(planted, "STEP", lab / "tooling/bisect-step")
    assert planted.bisect(repository) == 0
    said = capsys.readouterr().out
    assert "FOUND the planted commit" in said
    assert "# skip:" in said and "does not compile" in said


def test_another_commit_is_not_taken_for_the_planted_one(
    lab: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(planted, "STEP", lab / "tooling/bisect-step")
    planted.git(repository, "tag", "-f", "planted", "HEAD")
    assert planted.bisect(repository) == 1
    assert "NOT FOUND" in capsys.readouterr().out


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is there already"):
        planted.make(tmp_path, tmp_path)
