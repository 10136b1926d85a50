"""The cache seen from outside: what is there, what is stale, what goes and in which order, and what stays."""

import fcntl
import json
import os
from pathlib import Path

import pytest
from cpuidlab.base import artifact_gc, artifacts
from cpuidlab.base.artifact_kinds import Kind, _registered, label_of, registered
from cpuidlab.base.errors import UsageError
from cpuidlab.commands import cli
from cpuidlab.commands.cache import bytes_of
from cpuidlab.kernels.pins import KERNELS
from cpuidlab.rig.images import BOOTABLE
from cpuidlab.rig.snapshots import RESTORABLE, RIGS
from filelock import FileLock

OLD = 1_000_000.0
LONG_AGO = 5 * artifacts.YOUNG_SECONDS
KINDS = (  # those that cost least first
    "bootable", "restorable", "probes", "rigs", "probe", "compiled", "images", "patched", "kbuild", "headers",
    "toolchain", "kernels", "keys",
)  # fmt: skip


def put(kind: Kind, label: str, version: str, size: int = 4096, age: float = 0) -> Path:
    """Something made from `version`, last used `age` seconds ago."""

    def fill(folder: Path) -> None:
        (folder / "ram").write_bytes(b"x" * size)

    made = artifacts.made(kind, label, {"version": version}, fill)
    used = made.stat().st_mtime - age
    os.utime(made, (used, used))
    return made


def names() -> set[str]:
    return {f"{entry.kind}/{label_of(entry.path)}" for entry in artifact_gc.entries()}


def test_an_empty_cache(cache: Path) -> None:
    assert artifact_gc.entries() == []
    assert artifact_gc.prune(everything=True) == []
    assert not cache.exists()


def test_of_one_label_the_last_used_is_not_stale() -> None:
    new = put(RIGS, "5.10-npt-host", "2")
    old = put(RIGS, "5.10-npt-host", "1", age=60)
    other = put(RIGS, "5.10-npt-small", "1", age=LONG_AGO)
    assert {entry.path: entry.stale for entry in artifact_gc.entries()} == {new: False, old: True, other: False}


def test_a_kernel_is_stale_when_no_host_is_pinned_to_it(cache: Path) -> None:
    pinned, left = put(KERNELS, "6.1.0-1", "1", age=99), put(KERNELS, "6.1.0-2", "1")
    (cache / "kernels/pins").mkdir()
    (cache / "kernels/pins/6.1").write_text(pinned.name)
    assert {entry.path: entry.stale for entry in artifact_gc.entries()} == {pinned: False, left: True}


def test_what_is_not_content_hashed_is_shown_and_stays(cache: Path) -> None:
    (cache / "apt/trixie").mkdir(parents=True)
    (cache / "apt/trixie/list").write_bytes(b"x" * 5000)
    (entry,) = artifact_gc.entries()
    assert (entry.kind, entry.size, entry.is_made) == ("apt", 8192, False)
    assert artifact_gc.prune(everything=True, max_size=0) == []
    assert (cache / "apt/trixie/list").exists()


def test_pruning_drops_what_is_stale_and_not_used(cache: Path) -> None:
    put(RESTORABLE, "a", "2")
    stale, restored, making = (put(RESTORABLE, "a", version, age=60) for version in "134")
    with (restored / "ram").open("rb") as opened, FileLock(f"{making}.lock"):
        fcntl.flock(opened, fcntl.LOCK_SH)
        assert [entry.path for entry in artifact_gc.prune()] == [stale]
        assert artifact_gc.prune() == []
    assert {entry.path for entry in artifact_gc.prune()} == {restored, making}
    assert names() == {"restorable/a"}
    assert not list(cache.glob("*/*.partial"))


def test_a_smaller_cache_gives_up_what_is_soonest_made_again_and_longest_unused() -> None:
    for kind, label, age in ((KERNELS, "k", 9), (RIGS, "old", 5), (RIGS, "new", 1), (RESTORABLE, "t", 0)):
        put(kind, label, "1", size=10 * 4096, age=age)
    (Path(artifact_gc.cache_dir()) / "kernels/pins").mkdir()
    (Path(artifact_gc.cache_dir()) / "kernels/pins/k").write_text(
        next(artifact_gc.cache_dir().glob("kernels/k-*[0-9a-f]")).name
    )
    artifact_gc.prune(max_size=2 * 10 * 4096 + 8192)
    assert names() == {"rigs/new", "kernels/k"}
    artifact_gc.prune(everything=True)
    assert names() == set()


def test_room_is_made_by_what_is_made_again_in_a_second() -> None:
    for label, age in (("old", 900), ("middle", 500), ("just now", 1)):
        put(RESTORABLE, label, "1", size=10 * 4096, age=age)
    put(BOOTABLE, "host", "1", size=10 * 4096, age=500)
    put(RIGS, "packed", "1", size=10 * 4096, age=9999)
    artifact_gc.make_room(3 * 10 * 4096)
    assert names() == {"restorable/middle", "restorable/just now", "rigs/packed"}
    artifact_gc.make_room(0)
    assert names() == {"restorable/just now", "rigs/packed"}


def test_what_is_being_made_needs_room_too() -> None:
    put(RESTORABLE, "old", "1", size=10 * 4096, age=900)
    partial = put(RIGS, "new", "1", size=10 * 4096)
    partial.rename(partial.with_name(partial.name + ".partial"))
    artifact_gc.make_room(20 * 4096)
    assert "restorable/old" in names()
    artifact_gc.make_room(15 * 4096)
    assert "restorable/old" not in names()


def test_room_is_made_by_what_is_stale_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_drop_older", lambda _: None)
    stale, young = put(RIGS, "a", "1", size=40960, age=LONG_AGO), put(RIGS, "a", "2", size=40960, age=60)
    put(RIGS, "a", "3", size=40960)
    restorable = put(RESTORABLE, "t", "1", size=40960, age=900)
    artifact_gc.make_room(4 * 40960)
    assert stale.exists()
    artifact_gc.make_room(3 * 40960)
    assert [path.exists() for path in (stale, young, restorable)] == [False, True, True]
    artifact_gc.make_room(0)
    assert [path.exists() for path in (young, restorable)] == [True, False]


@pytest.mark.parametrize("age", [60, LONG_AGO])
def test_an_older_one_goes_when_a_new_one_is_made_unless_it_was_used_lately(age: float) -> None:
    old, other = put(RIGS, "a", "1", age=age), put(RIGS, "b", "1", age=LONG_AGO)
    new = put(RIGS, "a", "2")
    assert {path for path in (old, other, new) if path.exists()} == ({new, other} | ({old} if age == 60 else set()))


def test_what_is_restored_does_not_go_when_a_new_one_is_made() -> None:
    old = put(RESTORABLE, "a", "1", age=LONG_AGO)
    with (old / "ram").open("rb") as opened:
        fcntl.flock(opened, fcntl.LOCK_SH)
        put(RESTORABLE, "a", "2")
    assert old.exists()


def test_use_is_noticed() -> None:
    made = put(RIGS, "a", "1", age=LONG_AGO)
    before = made.stat().st_mtime
    put(RIGS, "a", "1")
    assert made.stat().st_mtime > before


@pytest.mark.parametrize(("text", "size"), [("6G", 6 * 10**9), ("1.5g", 15 * 10**8), ("20MB", 2 * 10**7), ("77", 77)])
def test_sizes(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "G", "6 giga", "-1", "1e9"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        bytes_of(text)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    put(RIGS, "a", "2", size=4_000_000)
    put(RIGS, "a", "1", size=2_000_000, age=60)
    assert cli.main(["cache"]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.split() == ["rigs", "2", "6.0", "MB"]
    assert last == "'cpuidlab cache prune' frees 2.0 MB"
    assert cli.main(["cache", "--json"]) == 0
    assert sorted(entry["stale"] for entry in json.loads(capsys.readouterr().out)["entries"]) == [False, True]
    assert cli.main(["cache", "prune", "--max-size", "1K"]) == 0
    assert capsys.readouterr().out == "2 dropped, 6.0 MB freed\n"
    assert cli.main(["cache", "--all"]) == cli.main(["cache", "prune", "--max-size", "big"]) == 2


def test_what_costs_least_goes_first_and_keys_go_last() -> None:
    costs = [kind.cost for name in KINDS if (kind := registered(name))]
    assert len(costs) == len(KINDS)  # each is registered by the module that makes it
    assert costs == sorted(costs)


def test_a_kind_that_no_module_registers_stays_as_it_is(cache: Path) -> None:
    old = put(Kind("brand-new", cost=0), "a", "1", age=LONG_AGO)
    _registered.pop("brand-new")
    assert [(entry.path, entry.stale) for entry in artifact_gc.entries()] == [(cache / "brand-new", False)]
    assert artifact_gc.prune(everything=True) == []
    assert old.exists()
