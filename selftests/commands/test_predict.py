"""What is to be predicted of each release in releases.toml; and the page and the command that show it."""

import json
from pathlib import Path

import pytest
from cpuidlab.commands import cli, predict
from cpuidlab.judge.eras import eras
from cpuidlab.judge.prediction import of_release

ROWS = [row for group in predict.examples() for row in group["releases"]]
REINIT = {"yes": True, "no": False, "unknown": None}


def test_each_release_is_predicted_as_the_table_says() -> None:
    assert len(ROWS) >= 90
    assert len({release for release, _, _ in ROWS}) == len(ROWS)
    wrong = []
    for release, era, reinit in ROWS:
        found = of_release(release, release, None)
        if (found.name, found.reinit) != (era, REINIT[reinit]):
            wrong.append((release, found.name, found.reinit, found.why))
        assert found.why and "\n" not in found.why
        assert found.era is None or found.among == (found.era,)
    assert wrong == []


@pytest.mark.parametrize(
    ("release", "why"),
    [
        ("6.19.0-rc1", "candidate 6.19-rc1: upstream range 6.19 until 6.19-rc2"),
        ("5.14.0-427.13.1.el9_4.x86_64", "this vendor rebases KVM: RHEL takes KVM from later versions"),
        ("6.18.0-12345-gabcdef", "a tree between 6.18 and 6.19-rc1: upstream range 6.15 until 6.18.3"),
        ("6.18.0-next-20251222", "linux-next of 2025-12-22, after 6.18: upstream range 6.19-rc2 until 7.0"),
        ("6.19.0-rc1+", "a tree between 6.19-rc1 and 6.19-rc2, and may have e2b43fb25243 or not"),
        ("6.18.0-8-generic", "the release does not tell which 6.18.y, and may have e2b43fb25243 or not"),
        ("5.15.0-113-generic", "the release does not tell which 5.15.y: upstream range 5.14 until 5.16 (Ubuntu "),
        ("6.17.0-8-generic", "this vendor adds fixes to KVM: Ubuntu's 6.17 goes on"),
    ],
)
def test_the_reason_is_one_clause(release: str, why: str) -> None:
    assert of_release(release, release, None).why.startswith(why)


def test_what_is_possible_where_nobody_knows() -> None:
    def among(release: str) -> list[str]:
        return [era.name for era in of_release(release, release, None).among]

    assert among("6.19.0-rc1+") == ["false-refusal", "forbid-changed"]
    assert among("6.17.0-8-generic") == ["false-refusal", "forbid-changed"]
    assert among("5.13.0-11855-g77d34a4683b0") == ["silent", "warn"]
    assert among("5.16.0-6-amd64") == ["forbid-all", "false-acceptance", "forbid-changed"]
    assert among("5.14.0-592.el9.x86_64") == [era.name for era in eras()]


def test_the_page_in_the_docs_is_current() -> None:
    assert predict.PAGE.read_text() == predict.page(), "write it anew: .venv/bin/cpuidlab predict --page"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "eras.toml"
    table.write_text('[releases]\n"*.el9*" = "warn"\n')
    assert cli.main(["predict", "--eras", str(table), "5.14.0-427.el9.x86_64", "6.19.0-rc1"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[:2] == ["5.14.0-427.el9.x86_64", "warn"] and f"user's table: '*.el9*' in {table}" in first
    assert second.split()[:2] == ["6.19.0-rc1", "false-refusal"] and "candidate: candidate 6.19-rc1" in second
    assert cli.main(["predict", "--json", "6.19.0-rc1+", "5.14.0-1.el9.x86_64"]) == 0
    between, rebased = json.loads(capsys.readouterr().out)["predictions"]
    assert (between["era"], between["basis"]) == (None, "development tree")
    assert between["possible"] == ["false-refusal", "forbid-changed"]
    assert (between["properties"]["reinit"], rebased["properties"]["reinit"]) == (True, None)


@pytest.mark.parametrize("words", [[], ["--page", "5.10"], ["six"]])
def test_usage(words: list[str]) -> None:
    assert cli.main(["predict", *words]) == 2
