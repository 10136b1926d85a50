"""The user's table of suites: what it may say, what each mistake is told as, and what it changes; no network."""

from pathlib import Path

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import PROJECT
from cpuidlab.commands import cli
from cpuidlab.kernels import lookup, suites
from cpuidlab.kernels.catalogue import catalogue
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.kernels.suite_table import Layout
from fakearchive import Archive, archive_of_three

GOOD = """
[[suites]]
name = "jammy"
mirror = "http://mirror.example/ubuntu/"
series = ["5.15"]
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's table, which is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "kvm-cpuid-lab").mkdir()
    (tmp_path / "keys.gpg").touch()
    return tmp_path / "kvm-cpuid-lab/kernels.toml"


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Archive:
    made = archive_of_three()
    made.put_in(monkeypatch)
    return made


def test_a_table_adds_suites_to_the_projects_own(file: Path) -> None:
    before = suites.built_in_rows()
    file.write_text(GOOD + 'suite = "jammy-updates"\ncomponent = "universe"\nkeyring = "../keys.gpg"\nended = true\n')
    *others, row = suites.suite_rows()
    assert tuple(others) == before
    suite = row.suite
    assert (suite.name, suite.calls, suite.mirror, suite.component, suite.ended, suite.table) == (
        "jammy", "jammy-updates", "http://mirror.example/ubuntu", "universe", True, str(file),
    )  # fmt: skip
    assert suite.keyring and suite.keyring.samefile(file.parents[1] / "keys.gpg")
    assert (row.series, row.rolling, row.layouts) == (("5.15",), False, before[0].layouts)


WRONG = [
    ('mirrors = "http://x/y"', "jammy: mirrors: there is no such key; known: name, mirror, "),
    ("series = 5.15", 'jammy: series: 5.15 should be a list of series, such as ["5.15", "6.8"]'),
    ("series = [5.15]", "jammy: series: [5.15] should be a list of series"),
    ('series = ["jammy"]', "jammy: series: ['jammy'] should be a list of series"),
    ('series = ["5.15.3"]', "jammy: series: ['5.15.3'] should be a list of series"),
    ("series = []", "jammy: series: is missing: "),
    ('suite = "jammy/updates"', "jammy: suite: 'jammy/updates' should be one word of letters, digits"),
    ('suite = "jammy updates"', "jammy: suite: 'jammy updates' should be one word"),
    ('suite = ""', "jammy: suite: '' should be one word"),
    ('name = "a/b"', "number 1: name: 'a/b' should be one word"),
    ('name = ".."', "number 1: name: '..' should be one word"),
    ("name = 3", "number 1: name: 3 should be one word"),
    ('name = "trixie"', "trixie: name: another suite has this name"),
    ('keyring = "/none/keys.gpg"', "jammy: keyring: there is no file /none/keys.gpg; install the package with"),
    ("keyring = 1", "jammy: keyring: 1 should be the path of a file"),
    ('mirror = "mirror.example/ubuntu"', "jammy: mirror: 'mirror.example/ubuntu' should be the address of the folder"),
    ('mirror = "http://m/u\\nTrusted: yes"', "jammy: mirror: 'http://m/u\\nTrusted: yes' should be the address"),
    ('component = "main universe"', "jammy: component: 'main universe' should be one word"),
    ('archive = "security"', "jammy: archive: names one of this machine's own mirrors, so it cannot stand beside"),
    ('archive = "old"', "jammy: archive: 'old' should be one of main, security"),
    ('ended = "yes"', "jammy: ended: 'yes' should be true or false"),
    ("rolling = 1", "jammy: rolling: 1 should be true or false"),
    ("packages = []", "jammy: packages: [] should be a list of names that each hold one *"),
    ('packages = "linux-*"', "jammy: packages: 'linux-*' should be a list of names"),
    ('packages = ["linux-image"]', "jammy: packages: ['linux-image'] should be a list of names"),
    ('packages = ["linux-*-*"]', "jammy: packages: ['linux-*-*'] should be a list of names"),
]


@pytest.mark.parametrize(("line", "told"), WRONG, ids=[line for line, _ in WRONG])
def test_what_is_wrong_is_one_line_with_file_table_and_key(
    file: Path, capsys: pytest.CaptureFixture[str], line: str, told: str
) -> None:  # fmt: skip
    key = line.partition(" ")[0]
    kept = [old for old in GOOD.splitlines() if not old.startswith(f"{key} ")]
    file.write_text("\n".join([*kept, line]))
    assert cli.main(["kernels"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"cpuidlab: {file}: [[suites]] {told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[suites]", " is no TOML: "),
        ("[suite]", ": suite: there is no such table; only [[suites]] can be added"),
        ("[suites]", ": suites should be tables, each with the head [[suites]]"),
        ("suites = [1]", ": suites should be tables, each with the head [[suites]]"),
        ("[[suites]]", ": [[suites]] number 1: name: is missing"),
        (GOOD + GOOD, ": [[suites]] jammy: name: another suite has this name"),
        ("\udcff", " is no TOML: "),
    ],
)
def test_a_file_that_is_no_table_is_one_line(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:  # fmt: skip
    file.write_text(text, errors="surrogateescape")
    assert cli.main(["try", "--host", "5.10", "--kernels", str(file)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"cpuidlab: {file}{told}")


def test_an_empty_table_and_none_add_nothing(file: Path) -> None:
    assert suites.suite_rows() == suites.built_in_rows()
    file.touch()
    suites._read_own.cache_clear()
    assert suites.suite_rows() == suites.built_in_rows()


@pytest.mark.parametrize(
    ("pattern", "name", "release"),
    [
        ("linux-image-unsigned-*-generic", "linux-image-unsigned-5.15.0-130-generic", "5.15.0-130-generic"),
        ("linux-image-*-amd64", "linux-image-4.19.0-27-amd64", "4.19.0-27-amd64"),
        ("linux-image-*-amd64", "linux-image-5.14.0-trunk-amd64", "5.14.0-trunk-amd64"),
        ("linux-image-*-amd64", "linux-image-6.1.0-0.deb11.50-amd64", "6.1.0-0.deb11.50-amd64"),
        ("linux-image-*-amd64", "linux-image-5.16.0-rc1-amd64", "5.16.0-rc1-amd64"),
        ("proxmox-kernel-*-pve", "proxmox-kernel-6.8.12-4-pve", "6.8.12-4-pve"),
        ("linux-image-*-amd64", "linux-image-4.19.0-27-cloud-amd64", ""),
        ("linux-image-*-amd64", "linux-image-4.19.0-27-rt-amd64", ""),
        ("linux-image-*-amd64", "linux-image-6.1-amd64", ""),
        ("linux-image-*-amd64", "linux-image-amd64", ""),
    ],
)
def test_the_star_stands_for_a_version_and_no_flavour(pattern: str, name: str, release: str) -> None:
    match = Layout((pattern,)).pattern.fullmatch(name)
    assert (match[1] if match else "") == release
    if match:
        assert Layout((pattern, "x-*")).names(release)[0] == name


def version_of(kernel: Kernel | None) -> str:
    return kernel.version if kernel else ""


def test_a_suite_of_the_users_says_what_its_series_means(file: Path, archive: Archive) -> None:
    archive.lists["jammy"] = {"linux-image-5.10.7-cloud-amd64": ["5.10.7-1"]}
    theirs = lookup.resolve("5.10")
    file.write_text(GOOD.replace("5.15", "5.10"))
    suites._read_own.cache_clear()
    assert lookup.resolve("5.10").version == "5.10.7-1"
    assert version_of(lookup.known("5.10")) == "5.10.7-1"
    assert lookup.resolve("5.10.262").suite == "bullseye-security"
    assert lookup.resolve("5.10", own=False) == theirs
    assert version_of(lookup.known("5.10", own=False)) == theirs.version
    assert [row.version for row in catalogue() if row.table] == ["5.10.7-1"]
    file.unlink()
    suites._read_own.cache_clear()
    assert lookup.resolve("5.10") == theirs


def test_a_series_of_the_users_never_falls_back_to_the_projects_suites(file: Path, archive: Archive) -> None:
    file.write_text(GOOD.replace("5.15", "5.10"))
    with pytest.raises(UsageError, match=r"there is no build of kernel 5\.10 in jammy;"):
        lookup.resolve("5.10")


def test_the_same_name_at_another_mirror_is_another_suite(file: Path, archive: Archive) -> None:
    archive.lists["jammy"] = {"linux-image-5.15.7-cloud-amd64": ["5.15.7-1"]}
    kernels, folders = set(), set()
    for mirror in ("mirror.example", "other.example"):
        file.write_text(GOOD.replace("mirror.example", mirror))
        suites._read_own.cache_clear()
        kernels.add(lookup.resolve("5.15").digest)
        folders.add(suites.suite_named("jammy").folder)
    assert len(kernels) == len(folders) == 2


def test_a_build_that_the_projects_suites_have_too_is_listed_for_both(file: Path, archive: Archive) -> None:
    archive.lists["jammy"] = {"linux-image-5.10.0-46-cloud-amd64": ["5.10.262-1"]}
    file.write_text(GOOD.replace("5.15", "5.10"))
    suites_of = [row.suite for row in catalogue() if row.version == "5.10.262-1"]
    assert suites_of == ["bullseye-security", "jammy"]


def test_the_sample_table_is_good_once_its_keyrings_are_there(tmp_path: Path) -> None:
    text = (PROJECT / "docs/kernels.toml.example").read_text()
    (tmp_path / "keys.gpg").touch()
    lines = [line if not line.startswith("keyring") else 'keyring = "keys.gpg"' for line in text.splitlines()]
    sample = tmp_path / "kernels.toml"
    sample.write_text("\n".join(lines))
    named = {series for row in suites._read_own(sample, "--kernels") for series in row.series}
    assert {"4.19", "5.14", "5.15", "5.16", "6.19", "7.0", "7.1"} <= named
