"""Host specs, the catalogue's choice of builds, and pins: all with package lists made up here."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.kernels import aptfetch, builds, host_spec, kbuild, lookup, patches
from cpuidlab.kernels.aptfetch import Suite
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "kind", "label"),
    [
        ("5.10", "debian", "5.10"),
        ("6.18.5", "debian", "6.18.5"),
        ("newest", "debian", "newest"),
        ("5.10+warning", "debian", "5.10+warning"),
        ("5.10+/some/where/fix.patch", "debian", "5.10+fix"),
        ("tree:/usr/src/linux-6.1", "tree", "tree:linux-6.1"),
        ("tree:/odd name;", "tree", "tree:odd_name_"),
        ("image:bzImage,lib/modules/x", "image", "image:bzImage,lib/modules/x"),
        ("local", "local", "local"),
        ("ssh://root@lab1:2222", "ssh", "ssh://root@lab1:2222"),
    ],
)
def test_spec_forms(text: str, kind: str, label: str) -> None:
    spec = host_spec.parse(text)
    assert (spec.kind, spec.label) == (kind, label)


@pytest.mark.parametrize("text", ["", "5", "5.10+", "v5.10", "tree:", "image:a", "image:a,", "ssh://host", "5.10.1.2"])
def test_spec_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="known forms"):
        host_spec.parse(text)


@given(st.text(alphabet="0159.+:/,@ sshtreimagelocalnw\n"))
def test_spec_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert host_spec.parse(text).text == text


ROLLING = builds.SuiteRow(Suite("new", "main"), (), True)
STABLE = builds.SuiteRow(Suite("old", "main"), ("6.1",), False)


def both(release: str, version: str, *parts: str) -> dict[str, list[str]]:
    """The package list entries of a release in the split layout."""
    return {f"linux-{part}-{release}-cloud-amd64": [version] for part in ("image", *parts)}


def test_split_build_needs_its_modules() -> None:
    packages = both("7.3.4+deb13", "7.3.4-1", "binary", "modules") | both("7.1.3+deb13", "7.1.3-1", "binary")
    found = {build.series: build for build in builds.builds_in(ROLLING, packages)}
    assert found["7.3"].lack is None
    assert found["7.3"].packages == (
        "linux-binary-7.3.4+deb13-cloud-amd64",
        "linux-modules-7.3.4+deb13-cloud-amd64",
    )
    assert found["7.1"].lack == "new has no package linux-modules-7.1.3+deb13-cloud-amd64"


def test_whole_builds_only_of_the_suites_series() -> None:
    packages = {
        "linux-image-6.1.0-50-cloud-amd64": ["6.1.176-1"],
        "linux-image-6.12.9-cloud-amd64": ["6.12.9-1"],
        "linux-image-6.1-cloud-amd64": ["6.1.176-1"],  # an empty package that depends on the newest
        "linux-image-6.1.0-50-cloud-amd64-unsigned": ["6.1.176-1"],
        "linux-image-6.1.0-50-amd64": ["6.1.176-1"],
    }
    (build,) = builds.builds_in(STABLE, packages)
    assert (build.release, build.upstream) == ("6.1.0-50-cloud-amd64", (6, 1, 176))


def test_order_of_builds() -> None:
    versions = ["7.3~rc4-1~exp1", "7.3-1", "7.3.4-1~bpo13+1", "7.3.4-2", "7.3.10-1"]
    made = [builds.Build("r", version, ROLLING.suite, (), None) for version in versions]
    shuffled = [made[3], made[0], made[4], made[2], made[1]]
    assert sorted(shuffled, key=lambda build: build.order) == made


def test_matches_does_not_confuse_series() -> None:
    build = builds.Build("r", "6.12.9-1", ROLLING.suite, (), None)
    assert build.matches("6.12") and build.matches("6.12.9")
    assert not build.matches("6.1") and not build.matches("6.12.90")


class Archive:
    """Stands for apt: suites with package lists, and packages that unpack to a kernel."""

    def __init__(self) -> None:
        self.lists: dict[str, dict[str, list[str]]] = {}
        self.asked: list[tuple[str, float]] = []
        self.gone: set[str] = set()
        self.offline = False

    def packages(self, suite: Suite, max_age: float = aptfetch.FRESH_SECONDS) -> dict[str, list[str]]:
        self.asked.append((suite.name, max_age))
        if self.offline:
            raise LabError("no network")
        if max_age == 0:
            self.gone_are_known()
        return self.lists.get(suite.name, {})

    def known_packages(self, suite: Suite) -> dict[str, list[str]]:
        return self.lists.get(suite.name, {})

    def gone_are_known(self) -> None:
        for packages in self.lists.values():
            for name in self.gone & packages.keys():
                del packages[name]

    def fetch(self, suite: Suite, wanted: Mapping[str, str], into: Path) -> None:
        for name in wanted:
            if name in self.gone:
                raise LabError(f"404 {name}")
            release = name.removeprefix("linux-image-")
            (into / "boot").mkdir(parents=True)
            (into / "boot" / f"vmlinuz-{release}").write_text("kernel")
            (into / "lib/modules" / release / "kernel").mkdir(parents=True)


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Archive:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fake = Archive()
    fake.lists["bullseye-security"] = {
        "linux-image-5.10.0-45-cloud-amd64": ["5.10.259-1"],
        "linux-image-5.10.0-46-cloud-amd64": ["5.10.262-1"],
    }
    fake.lists["trixie-backports"] = both("7.1.3", "7.1.3-1", "binary") | both("6.18.5", "6.18.5-1")
    monkeypatch.setattr(aptfetch, "packages", fake.packages)
    monkeypatch.setattr(aptfetch, "known_packages", fake.known_packages)
    monkeypatch.setattr(aptfetch, "fetch", fake.fetch)
    monkeypatch.setattr(kbuild, "depmod", lambda root, release: None)
    return fake


def test_newest_build_of_a_series_is_pinned(archive: Archive) -> None:
    first = lookup.resolve("5.10")
    assert (first.label, first.release, first.version) == ("5.10", "5.10.0-46-cloud-amd64", "5.10.262-1")
    assert first.vmlinuz.read_text() == "kernel"
    assert first.modules.name == first.release and first.modules.is_dir()
    archive.lists["bullseye-security"]["linux-image-5.10.0-47-cloud-amd64"] = ["5.10.270-1"]
    archive.asked.clear()
    assert lookup.resolve("5.10") == first
    assert archive.asked == []
    assert lookup.resolve("5.10", refresh=True).version == "5.10.270-1"


def test_exact_point_release(archive: Archive) -> None:
    assert lookup.resolve("5.10.259").release == "5.10.0-45-cloud-amd64"


def test_newest_is_the_newest_that_boots(archive: Archive) -> None:
    archive.lists["experimental"] = {"linux-image-7.4.0-cloud-amd64": ["7.4~rc1-1~exp1"]}
    kernel = lookup.resolve("newest")
    assert (kernel.spec, kernel.label) == ("newest", "6.18")


def test_a_build_that_left_the_mirror_is_chosen_anew(archive: Archive) -> None:
    archive.gone = {"linux-image-5.10.0-46-cloud-amd64"}
    assert lookup.resolve("5.10").version == "5.10.259-1"


def test_series_without_modules_says_so(archive: Archive) -> None:
    with pytest.raises(UsageError, match=r"kernel 7\.1 cannot be used: .* no package linux-modules-7\.1\.3"):
        lookup.resolve("7.1")


@pytest.mark.parametrize("spec", ["4.19", "5.10.1"])
def test_unknown_kernel_after_a_fresh_look(archive: Archive, spec: str) -> None:
    with pytest.raises(UsageError, match=f"no Debian build of kernel {spec}"):
        lookup.resolve(spec)
    assert archive.asked[-1][1] == 0


@pytest.mark.parametrize("spec", ["local", "ssh://a@b"])
def test_hosts_that_are_not_there_yet(spec: str) -> None:
    with pytest.raises(UsageError, match="not supported yet"):
        lookup.resolve(spec)


def test_named_patch_only_for_its_series(archive: Archive) -> None:
    with pytest.raises(UsageError, match=r"'warning' is for kernel 5\.10, not for 6\.18"):
        lookup.resolve("6.18+warning")
    assert archive.asked == []


def test_cache_that_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set XDG_CACHE_HOME"):
        lookup.resolve("5.10")


def test_catalogue_marks_cached_and_lacking(archive: Archive) -> None:
    lookup.resolve("5.10")
    rows = {row.version: row for row in lookup.catalogue()}
    assert rows["5.10.262-1"].cached and not rows["5.10.259-1"].cached
    assert rows["7.1.3-1"].lack and rows["6.18.5-1"].lack is None


def test_catalogue_shows_a_build_of_two_suites_once(archive: Archive) -> None:
    for suite in ("bookworm", "bookworm-security"):
        archive.lists[suite] = {"linux-image-6.1.0-50-cloud-amd64": ["6.1.176-1"]}
    assert [row.series for row in lookup.catalogue()].count("6.1") == 1


def test_catalogue_offline_asks_once_and_says_so(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    archive.offline = True
    assert {row.series for row in lookup.catalogue(refresh=True)} == {"5.10", "6.18", "7.1"}
    assert len(archive.asked) == 1
    assert capsys.readouterr().err.count("no network; showing what is known from before") == 1


def test_a_list_that_was_not_fetched_just_now_is_told(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aptfetch, "age", lambda _: 0.0)
    assert lookup.ask_archive() is None
    monkeypatch.setattr(aptfetch, "age", lambda _: 1800.0)
    assert "0.5 hours old" in (lookup.ask_archive() or "")
    archive.offline = True
    assert lookup.ask_archive() == "the archive cannot be asked: no network"


def test_every_named_patch_has_its_file() -> None:
    for patch in patches.named().values():
        assert patch.path.is_file() and patch.era and patch.series and patch.commits


def test_missing_patches() -> None:
    with pytest.raises(UsageError, match=r"no patch file /no/such\.patch"):
        patches.find("/no/such.patch")
    with pytest.raises(UsageError, match="named ones: warning"):
        patches.find("warnig")


def test_a_patch_says_in_its_head_what_it_stands_on(tmp_path: Path) -> None:
    path = tmp_path / "fault.patch"
    path.write_text("Host: 5.10+warning\n\n--- a/x\n")
    patch = patches.find(str(path))
    assert (patch.era, patch.series, patch.label) == ("warn", ("5.10",), "warning+fault")
    assert patch.files == (patches.find("warning").path, path)
    with pytest.raises(UsageError, match=r"for kernel 5\.10, not for 6\.1"):
        patch.check_series("6.1")
    path.write_text("Host: 6.1\n\n--- a/x\n")
    patch = patches.find(str(path))
    assert (patch.era, patch.series, patch.label, patch.files) == (None, ("6.1",), "fault", (path,))
    path.write_text("Host: 6.18.5\n\n--- a/x\n")
    assert patches.find(str(path)).series == ("6.18",)
    path.write_text("Subject: a fix\n\n--- a/x\n")
    assert patches.find(str(path)) == patches.Patch("fault", path)


def test_a_patch_that_cannot_be_read_is_told() -> None:
    with pytest.raises(UsageError, match="cannot read /proc/self/mem: Input/output error"):
        patches.head(Path("/proc/self/mem"))


@pytest.mark.parametrize("host", ["5.10+nothing", "local", "nonsense", "5.10+/some.patch"])
def test_a_head_that_names_no_host_of_ours(tmp_path: Path, host: str) -> None:
    path = tmp_path / "fault.patch"
    path.write_text(f"Host: {host}\n\n--- a/x\n")
    with pytest.raises(UsageError):
        patches.find(str(path))
