"""The build of Bochs: what is fetched and run, and what a user reads where it fails. Nothing is compiled."""

import errno
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from cpuidlab.base import command
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.kernels import aptfetch
from cpuidlab.kernels.suite import Suite
from cpuidlab.rig import bochs as module
from cpuidlab.rig.bochs import BIOS, PATCH, bochs


class Tools:
    """Stands for apt, tar, patch, configure and make."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.errors: dict[str, Exception] = {}

    def run(self, line: list[str], **options: Any) -> str:
        self.lines.append(" ".join(line))
        if error := self.errors.get(line[0]):
            raise error
        if line[0] == "make":
            (options["cwd"] / "bochs").write_text("a program")
            assert options["env"]["CXXFLAGS"] == module.FLAGS
        return ""

    def fetch_source(self, suite: Suite, name: str, version: str, into: Path) -> Path:
        self.lines.append(f"source {name} {version} of {suite.calls}")
        if error := self.errors.get("source"):
            raise error
        (into / "archive").touch()
        return into / "archive"

    def fetch(self, suite: Suite, wanted: dict[str, str], into: Path) -> None:
        (into / BIOS).parent.mkdir(parents=True)
        (into / BIOS).write_text(" ".join(wanted))


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools()
    monkeypatch.setattr(command, "run", tools.run)
    monkeypatch.setattr(aptfetch, "packages", lambda suite: {})
    monkeypatch.setattr(aptfetch, "fetch_source", tools.fetch_source)
    monkeypatch.setattr(aptfetch, "fetch", tools.fetch)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    bochs.cache_clear()
    return tools


def test_program_and_bios_are_kept_and_nothing_else(tools: Tools) -> None:
    build = bochs()
    assert build.program.read_text() == "a program"
    assert build.bios.read_text() == "bochsbios"
    assert sorted(path.name for path in build.folder.iterdir()) == ["BIOS-bochs-latest", "bochs"]
    assert [line.split()[0] for line in tools.lines] == ["source", "tar", "patch", "./configure", "make"]
    assert tools.lines[0] == f"source bochs {module.VERSION} of trixie"


def test_a_build_is_made_once(tools: Tools) -> None:
    first = bochs()
    bochs.cache_clear()
    assert (bochs(), len(tools.lines)) == (first, 5)


def test_another_word_for_a_reason_makes_no_other_build(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    first = bochs()
    (tmp_path / "bochs.patch").write_text(f"in other words\n{PATCH.read_text()}")
    monkeypatch.setattr(module, "PATCH", tmp_path / "bochs.patch")
    bochs.cache_clear()
    assert bochs() == first


@pytest.mark.parametrize("what", ["VERSION", "PATCH", "OPTIONS", "FLAGS"])
def test_whatever_differs_makes_another_build(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:  # fmt: skip
    first = bochs().folder.name
    (tmp_path / "bochs.patch").write_text("--- a/another")
    others = {"VERSION": "3.1-1", "PATCH": tmp_path / "bochs.patch", "OPTIONS": ("--enable-smp",), "FLAGS": "-O2"}
    monkeypatch.setattr(module, what, others[what])
    bochs.cache_clear()
    assert bochs().folder.name != first


@pytest.mark.parametrize("program", ["g++", "make"])
def test_a_compiler_that_is_missing_is_one_line(tools: Tools, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == program else name)
    line = f"--accel bochs compiles Bochs, and {program} is not installed: apt-get install {program}"
    with pytest.raises(UsageError, match=f"^{re.escape(line)}$"):
        bochs()
    assert tools.lines == []


@pytest.mark.parametrize(
    ("program", "raised", "line"),
    [
        ("source", LabError("trixie-sources has no upstream source"), "^trixie-sources has no upstream source$"),
        ("make", OSError(errno.ENOSPC, "no space left"), "^disk full while making bochs 3.0.dfsg-1 in "),
        (
            "make",
            LabError("make failed", "x\ncpu.cc:3:1: error: no member\ny"),
            "Bochs does not compile: cpu.cc:3:1: err",
        ),
        (
            "./configure",
            LabError("failed", "configure: error: no g++"),
            "Bochs does not compile: configure: error: no g",
        ),
        ("make", LabError("make did not end within 9 s"), "Bochs does not compile: make did not end within 9 s"),
    ],
)
def test_what_fails_is_one_line(tools: Tools, program: str, raised: Exception, line: str) -> None:
    tools.errors[program] = raised
    with pytest.raises(LabError, match=line) as error:
        bochs()
    assert "\n" not in str(error.value)


def test_each_file_that_the_patch_changes_has_its_reason() -> None:
    head, _, _ = PATCH.read_text().partition("--- a/")
    changed = [line.removeprefix("+++ b/") for line in PATCH.read_text().splitlines() if line.startswith("+++ b/")]
    assert changed
    for name in changed:
        assert f"\n{name}" in head, f"the head of {PATCH.name} gives no reason for {name}"


def test_it_is_built_for_any_processor() -> None:
    assert "-march" not in module.FLAGS
