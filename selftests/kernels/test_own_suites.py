"""Suites of the user's own table, from a signed archive on the loopback: the real apt and gpg read and check it."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.paths import cache_dir
from cpuidlab.commands import cli
from cpuidlab.kernels import kbuild, lookup, suites
from cpuidlab.kernels.catalogue import ask_own_suites, catalogue
from signedarchive import Key, SignedArchive

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("gpg", "gpgconf", "dpkg-deb", "apt-get", "zstd"))),
    reason="gpg, apt or zstd is not installed",
)
RELEASE, VERSION = "6.1.999-1-generic", "6.1.999-1.2"
IMAGE, MODULES = f"linux-image-unsigned-{RELEASE}", f"linux-modules-{RELEASE}"
TABLE = """
[[suites]]
name = "vendor"
mirror = "{mirror}"
suite = "own"
keyring = "{keyring}"
series = ["6.1"]
packages = ["linux-image-unsigned-*-generic", "linux-modules-*-generic"]
"""
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Key]]:
    """Two keys: one that signs, one that does not."""
    made = [Key(tmp_path_factory.mktemp("gpg") / "home") for _ in range(2)]
    yield made
    for key in made:
        key.end()


@pytest.fixture
def archive(tmp_path: Path, keys: list[Key], monkeypatch: pytest.MonkeyPatch) -> Iterator[SignedArchive]:
    """Ubuntu's way to split a kernel, and a kernel of another flavour."""
    config = tmp_path / "apt.conf"
    config.write_text('Acquire::http::Proxy::127.0.0.1 "DIRECT";\nAcquire::Retries "0";\n')
    monkeypatch.setenv("APT_CONFIG", str(config))
    monkeypatch.setattr(kbuild, "depmod", lambda root, release: None)
    made = SignedArchive(tmp_path / "archive", keys[0])
    made.add(IMAGE, VERSION, {f"boot/vmlinuz-{RELEASE}": "vendor's kernel"})
    made.add(MODULES, VERSION, {f"lib/modules/{RELEASE}/kernel/kvm.ko": "vendor's module"})
    made.add("linux-image-unsigned-6.1.999-1-cloud-generic", VERSION, {"boot/vmlinuz": ""})
    made.publish()
    with made.served():
        yield made


@pytest.fixture
def write(tmp_path: Path, archive: SignedArchive, keys: list[Key], monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes the user's table; the project's own suites are not there."""
    file = tmp_path / "config/kvm-cpuid-lab/kernels.toml"
    file.parent.mkdir(parents=True)

    def write(text: str = TABLE, **values: object) -> Path:
        file.write_text(text.format(**{"mirror": archive.address, "keyring": keys[0].public} | values))
        suites._read_own.cache_clear()
        return file

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(suites, "built_in_rows", tuple)
    return write


def test_a_kernel_is_found_by_series_and_by_point_release(write: Write) -> None:
    file = write()
    by_series, by_point = lookup.resolve("6.1"), lookup.resolve("6.1.999")
    assert by_series.vmlinuz.read_text() == "vendor's kernel"
    assert (by_series.modules / "kernel/kvm.ko").read_text() == "vendor's module"
    assert (by_series.release, by_series.version, by_series.suite) == (RELEASE, VERSION, "vendor")
    assert by_series.digest == by_point.digest
    assert suites.origin("vendor") == f"the suite vendor of {file}"


def test_a_kernel_drops_no_kernel_of_another_suite_with_its_release(write: Write) -> None:
    write()
    theirs = cache_dir() / f"kernels/{RELEASE}-{'0' * 20}"
    theirs.mkdir(parents=True)
    os.utime(theirs, (0, 0))  # as old as it may be
    lookup.resolve("6.1")
    assert theirs.is_dir()


def test_a_kernel_is_listed_with_its_suite(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    file = write()
    (row,) = catalogue()
    assert (row.release, row.suite, row.table, row.cached, row.lack) == (RELEASE, "vendor", str(file), False, None)
    lookup.resolve("6.1")
    assert cli.main(["kernels"]) == 0
    assert re.search(rf"^6\.1 +{VERSION} .* vendor +cached", capsys.readouterr().out, re.M)


def test_another_table_is_named_for_a_command(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write().rename(tmp_path / "other.toml")
    assert cli.main(["kernels", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kernels"] == []
    assert cli.main(["kernels", "--json", "--kernels", str(other)]) == 0
    assert [row["suite"] for row in json.loads(capsys.readouterr().out)["kernels"]] == ["vendor"]
    assert cli.main(["kernels", "--kernels", str(tmp_path / "none.toml")]) == 2
    assert f"there is no file {tmp_path}/none.toml, which is named for --kernels" in capsys.readouterr().err


def wrong_key(archive: SignedArchive, other: Key) -> None:
    archive.key = other
    archive.publish()


def missing_index(archive: SignedArchive, _: Key) -> None:
    archive.index.unlink()


def truncated_index(archive: SignedArchive, _: Key) -> None:
    archive.index.write_bytes(archive.index.read_bytes()[:-20])


def truncated_signature(archive: SignedArchive, _: Key) -> None:
    file = archive.index.parents[2] / "InRelease"
    file.write_bytes(file.read_bytes()[:-60])


def no_suite(archive: SignedArchive, _: Key) -> None:
    shutil.rmtree(archive.folder / "dists")


def past_its_date(archive: SignedArchive, _: Key) -> None:
    archive.publish("Valid-Until: Sun, 02 Jan 2022 00:00:00 UTC\n")


BROKEN = [
    (wrong_key, "(GPG error|OpenPGP signature verification failed): .*own InRelease"),
    (missing_index, "Failed to fetch .*Packages.* 404"),
    (truncated_index, "Failed to fetch .*Packages.* unexpected size"),
    (truncated_signature, "own InRelease"),
    (no_suite, "own Release' does not have a Release file"),
    (past_its_date, "Release file .* is expired"),
]


@pytest.fixture
def sound(tmp_path: Path, keys: list[Key]) -> Iterator[SignedArchive]:
    """Another archive, with a 6.2 laid out and packed as newer distributions do it."""
    made = SignedArchive(tmp_path / "sound", keys[0])
    release = "6.2.9-1-generic"
    made.add(f"linux-image-unsigned-{release}", "6.2.9-1", {f"usr/lib/modules/{release}/vmlinuz": "sound kernel"})
    folder = tmp_path / f"modules/usr/lib/modules/{release}/kernel"
    folder.mkdir(parents=True)
    subprocess.run(["zstd", "-q", "-o", str(folder / "kvm.ko.zst")], input=b"sound module", check=True)
    made.add_tree(f"linux-modules-{release}", "6.2.9-1", tmp_path / "modules")
    made.publish()
    with made.served():
        yield made


@pytest.mark.parametrize(("breaks", "told"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_suite_is_one_line(
    write: Write, archive: SignedArchive, keys: list[Key], breaks: Callable[[SignedArchive, Key], None], told: str
) -> None:  # fmt: skip
    breaks(archive, keys[1])
    file = write()
    line = (
        rf"^apt cannot read vendor from the mirror: .*{told}.*; check the network, and \[\[suites\]\] vendor in {file}$"
    )
    with pytest.raises(LabError, match=line):
        lookup.resolve("6.1")


def test_a_broken_suite_hides_no_other(
    write: Write, archive: SignedArchive, sound: SignedArchive, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    truncated_index(archive, archive.key)
    second = TABLE.replace("{mirror}", sound.address).replace("vendor", "sound").replace("6.1", "6.2")
    write(TABLE + second)
    assert [row.suite for row in catalogue()] == ["sound"]
    lines = [line for line in capsys.readouterr().err.splitlines() if "!!" in line]
    assert len(lines) == 1 and "apt cannot read vendor" in lines[0]
    (trouble,) = ask_own_suites()
    assert trouble.startswith("the archive cannot be asked: apt cannot read vendor")
    kernel = lookup.resolve("6.2")
    assert (kernel.suite, kernel.vmlinuz.read_text()) == ("sound", "sound kernel")
    assert (kernel.modules / "kernel/kvm.ko").read_text() == "sound module"


def test_an_ended_suite_may_be_past_its_date(write: Write, archive: SignedArchive, keys: list[Key]) -> None:
    past_its_date(archive, keys[0])
    write(TABLE + "ended = true\n")
    assert lookup.resolve("6.1").release == RELEASE


@pytest.mark.parametrize("text", [None, "another kernel"], ids=["missing", "changed"])
def test_a_broken_package_is_one_line(write: Write, archive: SignedArchive, text: str | None) -> None:
    write()
    catalogue()
    package = archive.pool(MODULES, VERSION)
    package.unlink() if text is None else package.write_text(text)
    with pytest.raises(LabError, match=rf"^apt cannot read vendor from the mirror: .*{re.escape(package.name)}[^\n]*$"):
        lookup.resolve("6.1")


def test_packages_that_hold_no_kernel_are_one_line(write: Write) -> None:
    file = write(TABLE.replace("linux-image-unsigned-*-generic", "linux-modules-*-generic"))
    told = f"{MODULES} and {MODULES} hold none of boot/vmlinuz-{RELEASE}, .*; see the packages in {file}$"
    with pytest.raises(LabError, match=told):
        lookup.resolve("6.1")


def test_a_kernel_without_its_modules_says_so(write: Write) -> None:
    write(TABLE.replace("linux-modules-", "linux-modules-extra-"))
    (row,) = catalogue()
    assert row.lack == f"vendor has no package linux-modules-extra-{RELEASE}"
    with pytest.raises(UsageError, match=r"kernel 6\.1 cannot be used: vendor has no package linux-modules-extra"):
        lookup.resolve("6.1")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('component = "contrib"', "vendor holds no package linux-"),
        ('series = ["6.2"]', "vendor holds no linux-image-unsigned-.-generic of the series"),
    ],
)
def test_a_table_that_finds_nothing_is_told(
    write: Write, capsys: pytest.CaptureFixture[str], line: str, told: str
) -> None:  # fmt: skip
    write(re.sub(rf"(?m)^{line.partition(' ')[0]} .*\n", "", TABLE) + line)
    assert catalogue() == []
    assert re.search(told, capsys.readouterr().err)
