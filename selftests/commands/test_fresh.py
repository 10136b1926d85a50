"""Clean roots: when a home is tried, what a root is told of this machine, and what is left of a failure."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.paths import PROJECT
from cpuidlab.commands import clean_root, fresh
from cpuidlab.commands.fresh import USERS
from cpuidlab.commands.homes import Home, homes

DEBIAN = Home("debian-12", ("bookworm", "bookworm-updates"), "bookworm-security")


class Bench:
    """The tasks that the worker was given, and which of them fails."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, str]] = []
        self.fails = ""

    def work(self, task: str, folder: Path, word: str, seconds: float) -> None:
        assert folder.is_dir()
        self.tasks.append((task, word))
        if word == self.fails:
            raise LabError("make setup failed with exit code 2; all it said is in LOG", "its last lines")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setattr(clean_root, "unable", str)
    monkeypatch.setattr(fresh, "homes", lambda _: [DEBIAN])
    monkeypatch.setattr(Home, "sources", lambda _: "deb http://main.example/debian bookworm main\n")
    monkeypatch.setattr(fresh, "_package_list", lambda _: "list")
    monkeypatch.setattr(clean_root, "_fill", lambda *_: None)
    monkeypatch.setattr(clean_root, "_remove", lambda folder: folder.rmdir())
    monkeypatch.setattr(clean_root, "work", bench.work)
    return bench


def test_a_home_is_tried_as_both_users_and_again_only_where_something_has_changed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fresh.main([], list(USERS), if_changed=True) == 0
    assert bench.tasks == [("make", "bookworm"), ("try", "user"), ("try", "root")]
    assert fresh.main([], list(USERS), if_changed=True) == 0
    assert len(bench.tasks) == 3
    assert "debian-12: nothing has changed since the good run of 20" in capsys.readouterr().err
    assert fresh.main([], list(USERS), if_changed=False) == 0  # by hand it is always tried
    assert len(bench.tasks) == 6
    monkeypatch.setattr(fresh, "_package_list", lambda _: "another list")
    assert fresh.main([], list(USERS), if_changed=True) == 0
    assert len(bench.tasks) == 9
    assert not list(cache.rglob("*.root"))


@pytest.mark.parametrize("name", ["tooling/packages.txt", "tooling/setup.sh", "tooling/requirements.lock", "Makefile"])
def test_each_input_of_the_set_up_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = fresh._key(DEBIAN, "sources")
    digest: Callable[[Path], str] = fresh.file_digest
    monkeypatch.setattr(fresh, "file_digest", lambda path: digest(path) + "x" * (path == PROJECT / name))
    assert fresh._key(DEBIAN, "sources") != before


def test_a_failure_is_told_and_is_tried_again(bench: Bench, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.fails = "root"
    assert fresh.main([], list(USERS), if_changed=True) == 1
    assert "fresh: debian-12: FAILED: make setup failed with exit code 2" in capsys.readouterr().err
    assert not list(cache.rglob("*.root"))
    bench.fails = ""
    assert fresh.main([], list(USERS), if_changed=True) == 0
    assert len(bench.tasks) == 6


def test_one_user_alone_is_no_good_run(bench: Bench) -> None:
    fresh.main([], ["root"], if_changed=False)
    fresh.main([], list(USERS), if_changed=True)
    assert [word for _, word in bench.tasks] == ["bookworm", "root", "bookworm", "user", "root"]


def test_what_cannot_be_tried_is_not_run_and_not_passed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clean_root, "unable", lambda: "this machine allows no namespaces")
    assert fresh.main([], list(USERS), if_changed=True) == 0
    assert "fresh: NOT RUN: this machine allows no namespaces" in capsys.readouterr().err
    assert fresh.main([], list(USERS), if_changed=False) == 125
    assert bench.tasks == []


def test_a_home_without_a_mirror_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keyring = tmp_path / "keyring.gpg"
    ubuntu = Home("ubuntu-24.04", ("noble",), "noble-security", "main universe", str(keyring), "CPUIDLAB_UBUNTU_MIRROR")
    with pytest.raises(UsageError, match=r"keyring\.gpg is missing"):
        ubuntu.sources()
    keyring.touch()
    monkeypatch.delenv("CPUIDLAB_UBUNTU_MIRROR", raising=False)
    with pytest.raises(UsageError, match="set CPUIDLAB_UBUNTU_MIRROR"):
        ubuntu.sources()
    monkeypatch.setenv("CPUIDLAB_UBUNTU_MIRROR", "http://ubuntu.example")
    assert "http://ubuntu.example noble-security main universe\n" in ubuntu.sources()


def test_the_homes_of_the_table() -> None:
    assert {"debian-12", "debian-13"} <= {home.name for home in homes()}
    assert [home.name for home in homes(["debian-13"])] == ["debian-13"]
    with pytest.raises(UsageError, match="unknown home 'debian-99'"):
        homes(["debian-99"])


def test_of_this_machine_a_root_is_told_how_archives_are_reached_and_nothing_else(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("certificate")
    environment = {"https_proxy": "http://proxy:1", "PIP_CERT": str(bundle), "HOME": "/home/me", "SECRET": "x"}
    lines = clean_root._way_out(environment, tmp_path).splitlines()
    assert lines == ["export https_proxy=http://proxy:1", f"export PIP_CERT={clean_root.CERTIFICATES_INSIDE}"]
    assert (tmp_path / "certificates").read_text() == "certificate"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A worker that does what a file says, without namespaces."""
    script = tmp_path / "worker"
    monkeypatch.setattr(clean_root, "WORKER", script)
    monkeypatch.setattr(clean_root, "_namespaces", lambda: ["sh"])
    return script


def test_a_worker_that_fails_names_its_step_and_keeps_its_log(worker: Path, tmp_path: Path) -> None:
    worker.write_text("echo '== make setup'; echo 'E: no such package'; exit 2")
    folder = tmp_path / "debian-12-abc.root"
    with pytest.raises(LabError, match=r"^make setup failed with exit code 2; .*debian-12-user.log$") as caught:
        clean_root.work("try", folder, "user", seconds=20)
    assert caught.value.evidence.endswith("E: no such package")


def test_a_worker_that_does_not_end_is_ended(worker: Path, tmp_path: Path) -> None:
    worker.write_text("echo '== make smoke'; echo $$; exec sleep 60")
    with pytest.raises(LabError, match="make smoke did not end within 1 s"):
        clean_root.work("try", tmp_path / "debian-12-abc.root", "root", seconds=1)
    pid = int((tmp_path / "debian-12-root.log").read_text().split()[-1])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
