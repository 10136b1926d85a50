"""What `all` stands for: made-up archives, and the project's own eras."""

import pytest
from cpuidlab.avocado_plugin import all_hosts
from cpuidlab.base.errors import UsageError
from cpuidlab.kernels.catalogue import CatalogueRow
from cpuidlab.kernels.patches import named


def row(version: str, lack: str | None = None, table: str = "") -> CatalogueRow:
    return CatalogueRow("", "", f"{version}-1", "suite", cached=False, lack=lack, table=table)


def hosts(*rows: CatalogueRow) -> tuple[str, ...]:
    return all_hosts.every_host(rows, named().values(), all_hosts.edges())


def test_each_series_once_with_its_patches_oldest_first() -> None:
    assert hosts(row("6.12.9"), row("5.10.250"), row("5.10.262"), row("6.12.100")) == ("5.10", "5.10+warning", "6.12")


def test_what_cannot_boot_and_candidates_do_not_count() -> None:
    assert hosts(row("7.0.4", lack="no modules"), row("7.3~rc7"), row("7.2.6")) == ("7.2",)


@pytest.mark.parametrize(
    ("points", "found"),
    [
        ("6.18.1 6.18.2 6.18.3 6.18.5 6.18.15", "6.18.2 6.18.3 6.18"),  # the border is 6.18.3
        ("6.18.5 6.18.9 6.18.15", "6.18.5 6.18"),
        ("6.18.5", "6.18"),
        ("6.18.1 6.18.2", "6.18"),
        ("5.16.1 5.16.2 5.16.9", "5.16.1 5.16.2 5.16"),  # borders at 5.16.0 and 5.16.3
        ("6.15.2 6.15.9", "6.15.2 6.15"),
        ("6.1.9 6.1.30", "6.1"),
    ],
)
def test_the_point_releases_at_a_border(points: str, found: str) -> None:
    assert hosts(*map(row, points.split())) == tuple(found.split())


def test_a_series_means_the_users_build_so_the_newer_one_is_named() -> None:
    ours = [row("6.18.1"), row("6.18.3")]
    assert hosts(*ours, row("6.18.2", table="/a/kernels.toml")) == ("6.18.3", "6.18")


def test_all_among_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_hosts.catalogue, "catalogue", lambda: [row("6.1.9"), row("6.12.3")])
    assert all_hosts.expand(("6.12", "all", "7.3")) == ("6.12", "6.1", "7.3")
    monkeypatch.setattr(all_hosts.catalogue, "catalogue", list)
    assert all_hosts.expand(("6.1",)) == ("6.1",)
    with pytest.raises(UsageError, match="no kernel is known that can boot"):
        all_hosts.expand(("all",))
