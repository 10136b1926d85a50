"""The guest's module: which packages its build tree is made of, and what is kept of a build; make is not run."""

import re
from pathlib import Path
from typing import Any

import pytest
from cpuidlab.base import command
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.kernels import aptfetch, buildtree
from cpuidlab.kernels.lookup import Kernel
from cpuidlab.kernels.suite import Suite
from cpuidlab.rig import guest_module

RELEASE, VERSION = "6.1.0-9-cloud-amd64", "6.1.27-1"
KERNEL = Kernel("6.1", "6.1", RELEASE, VERSION, "bookworm", Path("/vmlinuz"), Path("/modules"), "digest")
LISTED = {
    "linux-headers-6.1.0-9-cloud-amd64": ["6.1.27-1"],
    "linux-headers-6.1.0-9-common": ["6.1.27-1"],
    "linux-kbuild-6.1": ["6.1.30-1", "6.1.28-1"],
}


class Lab:
    """Stands for apt, make and strip; the headers' Makefile points where the packages were meant to lie."""

    def __init__(self) -> None:
        self.listed = dict(LISTED)
        self.wanted: dict[str, str] = {}
        self.lines: list[list[str]] = []
        self.complaint = ""

    def packages(self, _: Suite) -> dict[str, list[str]]:
        return self.listed

    def fetch(self, _: Suite, wanted: dict[str, str], into: Path) -> None:
        self.wanted = wanted
        for name in ("linux-headers-6.1.0-9-common", f"linux-headers-{RELEASE}"):
            (into / "usr/src" / name).mkdir(parents=True)
        headers = into / "usr/src" / f"linux-headers-{RELEASE}"
        (headers / "Makefile").write_text("include /usr/src/elsewhere/Makefile\n")
        (headers / ".kernelvariables").write_text("override CC = $(CROSS_COMPILE)gcc-99\n")

    def run(self, line: list[str], **_: Any) -> str:
        self.lines.append(line)
        if line[0] == "make":
            work = Path(next(word for word in line if word.startswith("M=")).removeprefix("M="))
            if self.complaint:
                raise LabError("make failed", evidence=self.complaint.replace("WORK", str(work)))
            (work / guest_module.MODULE).write_bytes((work / "cpuidprobe.c").read_bytes())
        else:
            Path(line[-2]).write_bytes(b"stripped " + Path(line[-1]).read_bytes())
        return ""


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    fake = Lab()
    monkeypatch.setattr(aptfetch, "packages", fake.packages)
    monkeypatch.setattr(aptfetch, "fetch", fake.fetch)
    monkeypatch.setattr(command, "run", fake.run)
    sources = tmp_path / "probe"
    sources.mkdir()
    for name in guest_module.SOURCES:
        (sources / name).write_text(name)
    monkeypatch.setattr(guest_module, "PROBE", sources)
    return fake


def test_headers_are_the_kernels_own_and_its_source_is_not_fetched(lab: Lab) -> None:
    guest_module.probe_module(KERNEL)
    assert lab.wanted == {
        "linux-headers-6.1.0-9-cloud-amd64": "6.1.27-1",
        "linux-headers-6.1.0-9-common": "6.1.27-1",
        "linux-kbuild-6.1": "6.1.30-1",
    }


def test_headers_of_another_version_do_not_do(lab: Lab) -> None:
    lab.listed["linux-headers-6.1.0-9-common"] = ["6.1.28-1"]
    told = (
        "no module of 6.1.0-9-cloud-amd64 can be built: bookworm has no linux-headers-6.1.0-9-common of version 6.1.2"
    )
    with pytest.raises(UsageError, match=re.escape(told)):
        guest_module.probe_module(KERNEL)


def test_stripped_module_alone_is_kept_and_made_once(lab: Lab) -> None:
    module = guest_module.probe_module(KERNEL)
    assert module.read_text() == "stripped cpuidprobe.c"
    assert [path.name for path in module.parent.iterdir()] == ["cpuidprobe.ko"]
    assert guest_module.probe_module(KERNEL) == module
    assert [line[0] for line in lab.lines] == ["make", "strip"]


def test_tree_is_used_where_it_lies(lab: Lab) -> None:
    guest_module.probe_module(KERNEL)
    headers = Path(lab.lines[0][2])
    assert (headers / "Makefile").read_text() == f"include {headers.parent / 'common'}/Makefile\n"


def test_each_source_gives_a_module_of_its_own(lab: Lab) -> None:
    modules = {guest_module.probe_module(KERNEL)}
    for name in guest_module.SOURCES:
        (guest_module.PROBE / name).write_text("changed")
        modules.add(guest_module.probe_module(KERNEL))
    assert len(modules) == 1 + len(guest_module.SOURCES)


def test_compilers_first_error_is_told(lab: Lab) -> None:
    lab.complaint = "  CC [M] x\nWORK/cpuidprobe.c:7:1: error: unknown type name 'u65'\nmake: *** Error 2\n"
    told = "cpuidprobe.ko does not compile for 6.1.0-9-cloud-amd64: cpuidprobe.c:7:1: error: unknown type name 'u65'"
    with pytest.raises(LabError, match=re.escape(told)):
        guest_module.probe_module(KERNEL)


@pytest.mark.parametrize(("installed", "chosen"), [(("gcc-99", "gcc"), "gcc-99"), (("gcc", "gcc-13"), "gcc-13")])
def test_kernels_own_compiler_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: tuple[str, ...], chosen: str
) -> None:
    variables = tmp_path / "usr/src/headers/.kernelvariables"
    variables.parent.mkdir(parents=True)
    variables.write_text("override CC = $(CROSS_COMPILE)gcc-99\n")
    monkeypatch.setattr("shutil.which", lambda name: name if name in installed else None)
    assert buildtree.compiler(tmp_path) == chosen
