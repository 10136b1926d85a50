"""Mirrors as this machine's apt names them: the real apt-get reads sources made up here; nothing is fetched."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.kernels import mirrors
from cpuidlab.kernels.mirrors import Source

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://main.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: trixie trixie-updates trixie-backports
Components: main

Types: deb
URIs: http://vendor.example/tool
Suites: bookworm bookworm-updates bookworm-backports
Components: stable
"""
ONE_LINE = """\
# deb http://comment.example/debian trixie main
deb [arch=amd64 signed-by=/k.gpg] http://main.example/debian trixie main non-free-firmware # note
deb http://security.example/debian-security/ trixie-security main
deb http://vendor.example/apt vendor-bookworm main
"""
UBUNTU = """\
Types: deb
URIs: http://ubuntu.example/ubuntu
Suites: noble noble-updates noble-backports noble-security
Components: main universe
"""
CDROM = "deb [trusted=yes] cdrom:[Debian GNU-Linux 12 _Bookworm_ - Official amd64]/ bookworm main\n"


APT_FILES = {"sourcelist": "sources.list", "sourceparts": "sources.list.d"}


@pytest.fixture(autouse=True)
def apt_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], None]:
    """Have apt read only the files that are written by the function returned."""
    (tmp_path / "sources.list.d").mkdir()
    config = tmp_path / "apt.conf"
    lines = [f'Dir::Etc::{name} "{tmp_path}/{file}";' for name, file in APT_FILES.items()]
    config.write_text("\n".join(lines))
    monkeypatch.setenv("APT_CONFIG", str(config))

    def write(name: str, text: str) -> None:
        (tmp_path / name).write_text(text)

    return write


@pytest.mark.parametrize(
    ("name", "text"), [("sources.list.d/debian.sources", DEB822), ("sources.list", ONE_LINE)], ids=["deb822", "list"]
)
def test_mirrors_of_this_machine(apt_reads: Callable[[str, str], None], name: str, text: str) -> None:
    apt_reads(name, text)
    assert mirrors.mirror("main") == "http://main.example/debian"
    assert mirrors.mirror("security") == "http://security.example/debian-security"


def test_the_address_of_most_suites_counts(apt_reads: Callable[[str, str], None]) -> None:
    apt_reads(
        "sources.list",
        "deb http://a.example/debian sid main\n" + "deb http://b.example/debian trixie main\n"
        "deb http://b.example/debian trixie-updates main\n",
    )
    assert mirrors.mirror("main") == "http://b.example/debian"


def test_ubuntu_asks_for_a_mirror(apt_reads: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    apt_reads("sources.list.d/ubuntu.sources", UBUNTU)
    with pytest.raises(UsageError, match="set CPUIDLAB_MIRROR to"):
        mirrors.mirror("main")
    with pytest.raises(UsageError, match="set CPUIDLAB_SECURITY_MIRROR to"):
        mirrors.mirror("security")
    monkeypatch.setenv("CPUIDLAB_MIRROR", "http://given.example/debian")
    assert mirrors.mirror("main") == "http://given.example/debian"


def test_the_security_archive_beside_the_main_one_is_offered(apt_reads: Callable[[str, str], None]) -> None:
    apt_reads("sources.list", "deb http://main.example/debian trixie main\n")
    offered = "export CPUIDLAB_SECURITY_MIRROR=http://main.example/debian-security$"
    with pytest.raises(UsageError, match=f"names no Debian security archive; .*{offered}"):
        mirrors.mirror("security")
    apt_reads("sources.list", "deb http://main.example/mirror trixie main\n")
    with pytest.raises(UsageError, match="set CPUIDLAB_SECURITY_MIRROR to the address"):
        mirrors.mirror("security")


def test_an_address_may_hold_blanks(apt_reads: Callable[[str, str], None]) -> None:
    apt_reads("sources.list", CDROM)
    (source,) = mirrors.sources()
    assert source == Source("cdrom://Debian GNU-Linux 12 _Bookworm_ - Official amd64", "bookworm", "main")


def test_sources_that_apt_cannot_read_are_one_line(apt_reads: Callable[[str, str], None]) -> None:
    apt_reads("sources.list", "nonsense\n")
    with pytest.raises(UsageError, match=r"^apt cannot read its own sources: Malformed .* set CPUIDLAB_MIRROR and"):
        mirrors.mirror("main")
