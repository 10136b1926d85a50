"""Package lists and packages: what apt is asked, and what is done with its answers; apt itself is not run."""

import os
from pathlib import Path

import pytest
from cpuidlab.base import command
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.kernels import aptfetch
from cpuidlab.kernels.suite import Suite


class Apt:
    """Stands for apt-get and apt-cache: notes each command and answers from a table."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = []
        self.fails = ""

    def run(self, line: list[str], **options: object) -> str:
        self.lines.append(line)
        if "download" in line:
            (Path(str(options["cwd"])) / "linux-a_2-1_amd64.deb").touch()
        if "--download-only" in line:
            folder = next(word for word in line if word.startswith("Dir::Cache::archives=")).partition("=")[2]
            (Path(folder) / "gcc-14_14-1_amd64.deb").touch()
        if "update" in line and self.fails:
            raise LabError("apt-get failed", evidence=self.fails)
        if "pkgnames" in line:
            return "linux-b\nlinux-a\n"
        if "madison" in line:
            return (
                "   linux-a | 2-1 | http://m x/main amd64 Packages\n"
                "   linux-a | 1-1 | http://m x/main amd64 Packages\n"
                "   linux-a | 2-1 | http://m x/main Sources\n"
            )
        return ""


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Apt:
    monkeypatch.setenv("CPUIDLAB_MIRROR", "http://given.example/debian")
    monkeypatch.setattr(aptfetch, "KEYRING", tmp_path)
    fake = Apt()
    monkeypatch.setattr(command, "run", fake.run)
    return fake


SUITE = Suite("trixie", "main")


def test_list_is_asked_for_once_a_day(apt: Apt) -> None:
    assert aptfetch.packages(SUITE) == {"linux-a": ["2-1", "1-1"]}
    asked = len(apt.lines)
    assert aptfetch.packages(SUITE) == {"linux-a": ["2-1", "1-1"]}
    assert len(apt.lines) == asked
    listing = SUITE.folder / "packages.json"
    os.utime(listing, (0, 0))
    aptfetch.packages(SUITE)
    assert len(apt.lines) == 2 * asked
    aptfetch.packages(SUITE, max_age=0)
    assert len(apt.lines) == 3 * asked


def test_sources_name_the_mirror_and_the_keyring(apt: Apt, tmp_path: Path) -> None:
    aptfetch.packages(SUITE)
    text = (SUITE.folder / "suite.sources").read_text()
    assert "URIs: http://given.example/debian\nSuites: trixie\n" in text
    assert f"Signed-By: {tmp_path}\n" in text
    assert "trusted" not in text.lower()


def test_source_packages_are_listed_only_where_they_are_asked_for(apt: Apt) -> None:
    for sources, types in ((False, "deb"), (True, "deb deb-src")):
        suite = Suite(f"suite-{sources}", "main", sources=sources)
        aptfetch.packages(suite)
        assert f"Types: {types}\n" in (suite.folder / "suite.sources").read_text()


URIS = """\
NOTICE: 'a' packaging is maintained in the 'Git' version control system
'http://m/a_3%2bx-1.dsc' a_3+x-1.dsc 2554 SHA256:aa
'http://m/a_3%2bx.orig.tar.xz' a_3+x.orig.tar.xz 389 SHA256:bb
'http://m/a_3%2bx-1.debian.tar.xz' a_3+x-1.debian.tar.xz 30 SHA256:cc
"""


def test_the_upstream_source_is_checked_against_the_signed_index(
    apt: Apt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    aptfetch.packages(SUITE)
    run = apt.run
    monkeypatch.setattr(
        command, "run", lambda line, **how: run(line, **how) or (URIS if "--print-uris" in line else "")
    )
    assert aptfetch.fetch_source(SUITE, "a", "3+x-1", tmp_path) == tmp_path / "a_3+x.orig.tar.xz"
    ask, download = apt.lines[-2:]
    assert ask[-2:] == ["--only-source", "a=3+x-1"]
    assert download[-4:] == [
        "download-file",
        "http://m/a_3%2bx.orig.tar.xz",
        f"{tmp_path}/a_3+x.orig.tar.xz",
        "SHA256:bb",
    ]


def test_a_source_that_is_gone_is_one_line(apt: Apt, tmp_path: Path) -> None:
    aptfetch.packages(SUITE)
    with pytest.raises(
        LabError, match=r"^trixie has no upstream source of a 3-1; check the network or set CPUIDLAB_MI"
    ):
        aptfetch.fetch_source(SUITE, "a", "3-1", tmp_path)


def test_only_an_ended_suite_may_be_past_its_date(apt: Apt) -> None:
    for ended in (False, True):
        suite = Suite(f"suite-{ended}", "main", ended)
        aptfetch.packages(suite)
        assert ("Check-Valid-Until" in (suite.folder / "apt.conf").read_text()) is ended


def test_a_suite_of_the_users_is_checked_whatever_the_machine_leaves_out(apt: Apt) -> None:
    suite = Suite("own", mirror="http://given.example/own", component="extra", calls="stable", table="/a/kernels.toml")
    aptfetch.packages(suite)
    text = (suite.folder / "apt.conf").read_text()
    assert 'Check-Date "true"' in text and 'Check-Valid-Until "true"' in text
    sources = (suite.folder / "suite.sources").read_text()
    assert "URIs: http://given.example/own\nSuites: stable\nComponents: extra\n" in sources


def test_offline_goes_on_with_the_old_list(apt: Apt, capsys: pytest.CaptureFixture[str]) -> None:
    aptfetch.packages(SUITE)
    apt.fails = "W: less\nE: Failed to fetch http://x  Could not connect\nE: more"
    assert aptfetch.packages(SUITE, max_age=0) == {"linux-a": ["2-1", "1-1"]}
    assert "Could not connect" in capsys.readouterr().err


def test_offline_without_a_list_is_one_clear_line(apt: Apt) -> None:
    apt.fails = "Err:1 http://x trixie\nE: Failed to fetch http://x  Could not connect\n"
    with pytest.raises(LabError, match=r"trixie .*: Failed to fetch .* connect; check the network or set CPUIDLAB_MI"):
        aptfetch.packages(SUITE)


def test_missing_keyring_says_what_to_install(apt: Apt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(aptfetch, "KEYRING", tmp_path / "none")
    with pytest.raises(UsageError, match="apt-get install debian-archive-keyring"):
        aptfetch.packages(SUITE)
    assert apt.lines == []


def test_fetch_asks_for_exact_versions_and_leaves_no_debs(apt: Apt, tmp_path: Path) -> None:
    aptfetch.packages(SUITE)
    aptfetch.fetch(SUITE, {"linux-a": "2-1"}, tmp_path / "out")
    download, unpack = apt.lines[-2:]
    assert download[-2:] == ["download", "linux-a=2-1"]
    assert unpack[:2] == ["dpkg-deb", "-x"] and unpack[-1] == str(tmp_path / "out")
    assert [path.name for path in tmp_path.glob("out*")] == ["out"]


def test_whole_asks_the_mirror_anew_and_unpacks_what_comes(apt: Apt, tmp_path: Path) -> None:
    aptfetch.packages(SUITE)
    apt.lines.clear()
    aptfetch.fetch_whole(SUITE, ["gcc-14", "make"], tmp_path / "out")
    assert any("update" in line for line in apt.lines)
    install, unpack = apt.lines[-2:]
    assert install[-3:] == ["install", "gcc-14", "make"] and "--no-install-recommends" in install
    assert unpack[:2] == ["dpkg-deb", "-x"] and unpack[-1] == str(tmp_path / "out")
    assert [path.name for path in tmp_path.glob("out*")] == ["out"]
