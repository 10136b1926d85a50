"""A bare machine for tooling/setup.sh: a copy of the project's frame, with fake apt, dpkg, sudo and Python."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cpuidlab.base.paths import PROJECT

FRAME = ["tooling/setup.sh", "tooling/packages.txt", "tooling/requirements.lock", "setup.cfg", "pyproject.toml"]
REAL = ["bash", "dirname", "sed", "grep", "paste", "cat", "readlink", "sha256sum", "flock", "tail", "wc", "tr", "env",
        "mkdir", "ln", "rm", "touch", "cp", "chmod"]  # fmt: skip
ALL_INSTALLED = (
    """for name in $(sed 's/#.*//; s/|/ /g' tooling/packages.txt); do printf ' installed=%s ' "$name"; done"""
)
# A Python that can make an environment; the pip of that environment notes what it was asked for.
PYTHON = """case "$1 $2" in
"-m venv") mkdir -p .venv/bin; rm -f .venv/stamp*; cp "$0" .venv/bin/python ;;
"-m pip") echo "$@" >>pip-calls; echo "Collecting thing==1" ;;
esac"""


class Machine:
    """A copy of the frame, and a PATH on which only a few real programs and the fakes are."""

    def __init__(self, folder: Path) -> None:
        self.project, self.programs = folder / "project", folder / "programs"
        self.programs.mkdir()
        for name in FRAME:
            (self.project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, self.project / name)
        for name in REAL:
            (self.programs / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name} here"))
        self.has("id", "echo 0")
        self.has("dpkg-query", ALL_INSTALLED)
        self.has("apt-cache", "echo Candidate: 1.0")
        self.has("apt-get", 'echo "$@" >>apt-calls')
        self.has("python3", PYTHON)

    def has(self, name: str, script: str) -> None:
        (self.programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (self.programs / name).chmod(0o755)

    def setup(self, step: str = "all") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["tooling/setup.sh", step], cwd=self.project, env={"PATH": str(self.programs)}, text=True,
            capture_output=True, stdin=subprocess.DEVNULL, timeout=20, check=False,
        )  # fmt: skip

    def begun(self) -> "subprocess.Popen[str]":
        """A set-up in a process group of its own, as a shell begins it."""
        # what a shell starts in the background ignores Ctrl-C, and bash cannot trap what it ignored at its start
        words = [shutil.which("env") or "env", "--default-signal=HUP,INT,QUIT", "tooling/setup.sh"]
        return subprocess.Popen(
            words, cwd=self.project, env={"PATH": str(self.programs)}, text=True, process_group=0,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def noted(self, name: str) -> list[str]:
        path = self.project / name
        return path.read_text().splitlines() if path.exists() else []


def changing(machine: Machine) -> list[str]:
    """What apt and dpkg were asked to change; how much apt would fetch is only a question."""
    return [call for call in machine.noted("apt-calls") if "--print-uris" not in call]


def fails_in_one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line a failed set-up says beside its progress."""
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    return line


def lacks_cpuid(machine: Machine) -> None:
    machine.has("dpkg-query", f"({ALL_INSTALLED}) | sed 's/ installed=cpuid //'")
