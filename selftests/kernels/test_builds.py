"""Which builds a package list holds, what they lack, and their order."""

from cpuidlab.kernels import builds, suites
from cpuidlab.kernels.suite import Suite
from cpuidlab.kernels.suite_table import SuiteRow
from fakearchive import both

LAYOUTS = suites.built_in_rows()[0].layouts
ROLLING = SuiteRow(Suite("new", "main"), (), True, LAYOUTS)
STABLE = SuiteRow(Suite("old", "main"), ("6.1",), False, LAYOUTS)


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
