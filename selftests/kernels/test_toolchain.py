"""Which compiler a kernel's build gets: this machine's, or one fetched with its suite."""

from pathlib import Path

import pytest
from cpuidlab.kernels import aptfetch, buildtree, toolchain
from cpuidlab.kernels.suite import Suite


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    headers = tmp_path / "tree/usr/src/headers"
    headers.mkdir(parents=True)
    (headers / ".kernelvariables").write_text("CC = $(CROSS_COMPILE)gcc-14\n")
    return tmp_path / "tree"


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name in names else None)


def test_the_kernels_own_compiler_if_it_is_here(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "gcc-12", "gcc-14")
    assert toolchain.command(tree, "7.3.4+deb13-cloud-amd64", ["make"]) == ["make", "CC=gcc-14"]


def test_a_kernel_of_no_fetched_toolchain_takes_the_best_that_is_here(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, "gcc-12", "gcc")
    assert toolchain.command(tree, "5.10.0-46-cloud-amd64", ["make"]) == ["make", "CC=gcc-12"]


def test_a_missing_compiler_is_fetched_once_with_its_suite(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch(suite: Suite, names: list[str], into: Path) -> None:
        fetched.append((suite.name, "gcc-14" in names))
        (into / "usr/bin").mkdir(parents=True)

    installed(monkeypatch, "gcc-12")
    monkeypatch.setattr(aptfetch, "fetch_whole", fetch)
    for _ in range(2):
        line = toolchain.command(tree, "7.3.4+deb13-cloud-amd64", ["make", "-j2"])
    assert line[0] == "unshare" and line[-3:] == ["make", "-j2", "CC=gcc-14"]
    assert fetched == [("trixie", True)]


def test_a_tree_since_6_13_names_its_output_folder(tree: Path) -> None:
    makefile = tree / "usr/src/headers/Makefile"
    makefile.write_text("KBUILD_OUTPUT=/usr/src/linux-7.3\ninclude /usr/src/linux-7.3-common/Makefile\n")
    buildtree.mend(tree)
    assert makefile.read_text() == (f"KBUILD_OUTPUT={tree}/usr/src/headers\ninclude {tree}/usr/src/common/Makefile\n")
