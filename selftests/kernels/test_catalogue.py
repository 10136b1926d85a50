"""The catalogue: what it marks, what it shows once, and what it says without a network."""

import pytest
from cpuidlab.kernels import aptfetch, lookup
from cpuidlab.kernels.catalogue import ask_archive, catalogue
from fakearchive import Archive, archive_of_three


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Archive:
    archive = archive_of_three()
    archive.put_in(monkeypatch)
    return archive


def test_catalogue_marks_cached_and_lacking(archive: Archive) -> None:
    lookup.resolve("5.10")
    rows = {row.version: row for row in catalogue()}
    assert rows["5.10.262-1"].cached and not rows["5.10.259-1"].cached
    assert rows["7.1.3-1"].lack and rows["6.18.5-1"].lack is None


def test_catalogue_shows_a_build_of_two_suites_once(archive: Archive) -> None:
    for suite in ("bookworm", "bookworm-security"):
        archive.lists[suite] = {"linux-image-6.1.0-50-cloud-amd64": ["6.1.176-1"]}
    assert [row.series for row in catalogue()].count("6.1") == 1


def test_catalogue_offline_asks_once_and_says_so(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    archive.offline = True
    assert {row.series for row in catalogue(refresh=True)} == {"5.10", "6.18", "7.1"}
    assert len(archive.asked) == 1
    assert capsys.readouterr().err.count("no network; showing what is known from before") == 1


def test_a_list_that_was_not_fetched_just_now_is_told(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aptfetch, "age", lambda _: 0.0)
    assert ask_archive() is None
    monkeypatch.setattr(aptfetch, "age", lambda _: 1800.0)
    assert "0.5 hours old" in (ask_archive() or "")
    archive.offline = True
    assert ask_archive() == "the archive cannot be asked: no network"
