"""Who predicts an era: the user, the patch, the user's table of releases, the version, in this order."""

from dataclasses import replace
from pathlib import Path

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.commands import cli
from cpuidlab.judge import prediction
from cpuidlab.judge.eras import era
from cpuidlab.kernels import catalogue
from cpuidlab.kernels.kernel import Kernel

RHEL = Kernel("image:a,b", "rhel", "5.14.0-427.el9.x86_64", "5.14.0", "", Path("z"), Path("m"), "d")
TABLE = """[releases]
"5.14.0-*.el9.x86_64" = "forbid-changed"
"*.el9*" = "silent"
"5.10.*" = "forbid-all"
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "kvm-cpuid-lab/eras.toml"
    file.parent.mkdir()
    file.write_text(TABLE)
    return file


@pytest.mark.parametrize(
    ("kernel", "named", "era", "source"),
    [
        (RHEL, "", "forbid-changed", "'5.14.0-*.el9.x86_64' in "),
        (replace(RHEL, release="6.6.6.el9_4"), "", "silent", "'*.el9*' in "),
        (RHEL, "warn", "warn", "--era"),
        (replace(RHEL, release="5.14.0-1-generic"), "", "warn", ""),
        (replace(RHEL, release="5.14.0-1.el10"), "", "unknown", ""),
        (replace(RHEL, spec="5.10", release="5.10.0-46"), "", "forbid-all", "'5.10.*' in "),
        (replace(RHEL, spec="5.10+warning", release="5.10.0-46"), "", "warn", "the patch 'warning'"),
    ],
)
def test_who_counts_most(kernel: Kernel, named: str, era: str, source: str, table: Path) -> None:
    said = prediction.predicted(kernel, named, str(table))
    assert said.name == era
    told = said.told("H")
    assert not source or told == f"era {era} of H is named by {said.why}"
    assert said.why.startswith(source)
    if era == "unknown":
        assert told.startswith("no prediction for H: this vendor rebases KVM: RHEL")
    elif not source:
        assert told == ""


def test_a_patch_may_bring_the_re_initialization() -> None:
    plain = replace(RHEL, spec="5.10", release="5.10.0-46-cloud-amd64", version="5.10.262-1")
    assert prediction.predicted(plain).reinit is False
    assert prediction.predicted(replace(plain, spec="5.10+warning")).reinit is True
    assert prediction.predicted(RHEL, "warn").reinit is None


def test_the_era_knows_whether_its_kernel_initializes_mmus_anew() -> None:
    def of(release: str, named: str = "") -> bool | None:
        return prediction.predicted(replace(RHEL, release=release, version=release), named).among[0].reinit

    assert (of("5.10.251"), of("5.12.17"), of("5.13.0-52-generic"), of("5.15.16")) == (False, True, None, True)
    assert (of("6.1.50", "silent"), of("5.10.251", "warn"), of(RHEL.release)) == (True, True, None)
    silent = prediction.predicted(replace(RHEL, release="5.12.17", version="5.12.17")).era
    assert silent == era("silent")  # it is the same promise


def test_the_users_own_table_is_found_and_need_not_exist(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert prediction.predicted(RHEL).name == "forbid-changed"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "empty"))
    assert prediction.predicted(RHEL).era is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[releases", "is no TOML"),
        ("", r"should hold one table, \[releases\]"),
        ('[releases]\n[more]\nx = "silent"', r"should hold one table, \[releases\]"),
        ("releases = 1", r"should hold one table, \[releases\]"),
        ('[releases]\n"*" = "loud"', r"'\*': no era is named 'loud'; known: silent"),
        ('[releases]\n5.14 = "silent"', "'5' should be the name of an era"),
        (b"\xff\xfe", "is no TOML"),
    ],
)
def test_a_bad_table_is_one_line_that_names_it(text: str | bytes, line: str, tmp_path: Path) -> None:
    file = tmp_path / "eras.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=line) as told:
        prediction.overrides(file, required=True)
    assert str(file) in str(told.value) and "\n" not in str(told.value)


def test_a_table_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        prediction.of_release("5.10", "5.10", str(tmp_path / "gone"))
    with pytest.raises(UsageError, match="cannot read"):
        prediction.of_release("5.10", "5.10", str(tmp_path))


def test_the_list_of_kernels_shows_it(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = catalogue.CatalogueRow("5.10", "5.10.0-46-cloud-amd64", "5.10.262-1", "suite", cached=True, lack=None)
    monkeypatch.setattr(catalogue, "catalogue", lambda _: [row])
    assert cli.main(["kernels", "--eras", str(table)]) == 0
    said = capsys.readouterr().out
    assert "forbid-all" in said and f"(predicted by user's table: '5.10.*' in {table})" in said
    table.write_text("nonsense")
    prediction.overrides.cache_clear()
    assert cli.main(["kernels", "--eras", str(table)]) == 2
