"""Nights on stand-ins for `avocado` and `cpuidlab compare`: what is kept, told and shown, and what goes wrong."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cells import CELL
from cpuidlab.base.paths import TOOLING
from cpuidlab.commands import arguments, cli, nightly
from cpuidlab.judge.verdict import Verdict
from cpuidlab.kernels import catalogue, lookup
from cpuidlab.report import matrix_file
from filelock import FileLock
from waiting import ended, until

# Does what HOW says; leaves what a job leaves, and notes its words.
AVOCADO = """#!{python}
import json, os, shutil, sys, time
from dataclasses import replace
from pathlib import Path
words = sys.argv[1:]
results = Path(words[words.index("--job-results-dir") + 1])
with Path({calls!r}).open("a") as file:
    file.write(json.dumps(words) + "\\n")
job = results / f"job-{{len(list(results.iterdir()))}}"
job.mkdir()
(results / "latest").unlink(missing_ok=True)
(results / "latest").symlink_to(job.name)
(job / "journal.jsonl").write_text("")
how = os.environ["HOW"]
if how == "hangs":
    Path({calls!r} + ".pid").write_text(str(os.getpid()))
    time.sleep(60)
if how == "no result":
    sys.exit("cpuidlab: the disk is full")
(job / "matrix.json").write_text({matrix!r} if how != "half" else {matrix!r}[:50])
(job / "matrix.html").write_text("page")
print("the end")
sys.exit(int(how) if how.isdigit() else 0)
"""
COMPARE = """#!{python}
import os, sys
assert sys.argv[1] == "compare" and all(os.path.isfile(file) for file in sys.argv[2:])
print("<compared>")
sys.exit(int(os.environ.get("WORSE", "0")))
"""


class Lab:
    """The results' folder, and the stand-ins' notes."""

    def __init__(self, folder: Path) -> None:
        self.out, self.calls = folder / "nights", folder / "calls"

    def night(self, keep: int = 9, hosts: str = "5.10") -> int:
        return cli.main(["nightly", "--out", str(self.out), "--keep", str(keep), "--hosts", hosts])

    @property
    def names(self) -> list[str]:
        return [night.name for night in nightly.nights(self.out)]

    @property
    def words(self) -> list[list[str]]:
        return [json.loads(line) for line in self.calls.read_text().splitlines()]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose archive is there, with nothing new in it."""
    lab = Lab(tmp_path)
    matrix_file.write([CELL], tmp_path / "matrix.json")
    facts: dict[str, Any] = {
        "python": sys.executable, "calls": str(lab.calls), "matrix": (tmp_path / "matrix.json").read_text(),
    }  # fmt: skip
    for name, text in (("avocado", AVOCADO), ("cpuidlab", COMPARE), ("python", "")):
        (tmp_path / name).write_text(text.format(**facts))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(nightly.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("HOW", "0")
    monkeypatch.setattr(catalogue, "ask_archive", lambda: None)
    monkeypatch.setattr(lookup, "renew", lambda _: [])
    number = iter(range(10, 99))
    monkeypatch.setattr(nightly.time, "strftime", lambda *_: f"2026-11-{next(number)}")
    return lab


def test_a_first_night(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.night() == 0
    assert lab.words[0][:2] == ["run", "tests/"]
    assert lab.words[0][4:6] == ["--hosts", "5.10"]
    assert "--resume" not in lab.words[0]
    subject, *rest = capsys.readouterr().out.splitlines()
    assert subject == "CPUID matrix 2026-11-10: all as promised"
    assert "The one host tested (5.10) does what it promises." in rest
    assert rest[-1] == f"Page: {lab.out}/2026-11-10/matrix.html"
    assert Path(rest[-1].removeprefix("Page: ")).read_text() == "page"
    assert '<a href="2026-11-10/matrix.html">' in (lab.out / "index.html").read_text()
    assert not (lab.out / "running").exists()


@pytest.mark.parametrize(
    "case",
    [
        ("0", "0", 0, "all as promised"), ("0", "1", 1, "worse than 2026-11-10"), ("1", "0", 1, "a promise is broken"),
        ("125", "0", 125, "not all could be tested"), ("125", "1", 1, "worse than 2026-11-10"),
        ("0", "2", 0, "all as promised"),
    ],
)  # fmt: skip
def test_a_night_is_held_against_the_last(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: tuple[str, str, int, str]
) -> None:
    how, worse, code, told = case
    lab.night()
    capsys.readouterr()
    monkeypatch.setenv("HOW", how)
    monkeypatch.setenv("WORSE", worse)
    assert lab.night() == code
    said = capsys.readouterr().out
    assert said.startswith(f"CPUID matrix 2026-11-11: {told}\n")
    assert "Against 2026-11-10:\n<compared>" in said
    assert "&lt;compared&gt;" in (lab.out / "index.html").read_text()


def test_a_night_that_could_not_test_all_is_no_measure(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.night()
    monkeypatch.setenv("HOW", "125")
    lab.night()
    monkeypatch.setenv("HOW", "0")
    lab.night()
    assert "Against 2026-11-10:" in capsys.readouterr().out.partition("2026-11-12")[2]


@pytest.mark.parametrize("gap", ["error", "unfinished"])
def test_a_broken_promise_beside_a_gap_is_no_measure_either(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gap: str
) -> None:
    lab.night()
    monkeypatch.setenv("HOW", "1")
    with monkeypatch.context() as patched:
        if gap == "error":
            patched.setattr(matrix_file, "read", lambda _: (replace(CELL, verdict=Verdict.ERROR),))
        else:
            patched.setattr(nightly, "read_about", lambda _: ({"not run": "3 tests"}, []))
        lab.night()
    lab.night()
    assert "Against 2026-11-10:" in capsys.readouterr().out.partition("2026-11-12")[2]
    assert [night.is_good for night in nightly.nights(lab.out)] == [True, False, True]


def test_a_job_that_made_nothing_new_is_no_night(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = lab.out / "running/job-0"
    old.mkdir(parents=True)
    (lab.out / "running/latest").symlink_to("job-0")
    matrix_file.write([CELL], old / "matrix.json")
    monkeypatch.setattr(nightly, "_job", lambda *_: 125)
    assert lab.night() == 125
    assert capsys.readouterr().err.startswith("cpuidlab: the night has no result")
    assert lab.names == []


def test_old_nights_go_and_the_last_good_one_stays(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        lab.night(keep=2)
    assert lab.names == ["2026-11-12", "2026-11-11"]
    monkeypatch.setenv("HOW", "125")
    for _ in range(3):
        lab.night(keep=2)
    assert lab.names == ["2026-11-15", "2026-11-14", "2026-11-12"]
    assert sorted(path.name for path in lab.out.iterdir() if path.is_dir()) == sorted(lab.names)
    assert "2026-11-11/matrix.html" not in (lab.out / "index.html").read_text()


@pytest.mark.parametrize("how", ["no result", "half", "2", "130"])
def test_a_night_without_a_result_leaves_the_others_as_they_are(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    lab.night()
    before = (lab.out / "index.html").read_text()
    capsys.readouterr()
    monkeypatch.setenv("HOW", how)
    assert lab.night() == 125
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("cpuidlab: the night has no result")
    assert lab.names == ["2026-11-10"]
    assert (lab.out / "index.html").read_text() == before


def test_a_night_on_a_full_disk_says_so(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOW", "no result")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    assert lab.night() == 125
    assert capsys.readouterr().err == (
        f"cpuidlab: the night has no result, there is no room left in {lab.out}: free some, then run again\n"
    )


def test_what_a_reboot_has_left_is_resumed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOW", "no result")
    lab.night()
    left = (lab.out / "running/latest").resolve()
    monkeypatch.setenv("HOW", "0")
    assert lab.night() == 0
    assert lab.words[1][-2:] == ["--resume", str(left)]
    assert not (lab.out / "running").exists()
    lab.night()
    assert "--resume" not in lab.words[2]


def test_a_job_that_left_no_journal_is_begun_anew(lab: Lab) -> None:
    (lab.out / "running/job-0").mkdir(parents=True)
    (lab.out / "running/latest").symlink_to("job-0")
    (lab.out / "running/job-1").mkdir()
    assert lab.night() == 0
    assert "--resume" not in lab.words[0]


def test_a_missing_mirror_is_told_and_the_night_runs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalogue, "ask_archive", lambda: "the archive cannot be asked: no network")
    monkeypatch.setattr(lookup, "renew", lambda _: pytest.fail("nothing is fetched"))
    assert lab.night() == 0
    assert "Note: the archive cannot be asked: no network" in capsys.readouterr().out
    assert "no network" in (lab.out / "index.html").read_text()


def test_a_broken_suite_of_the_users_is_told_and_the_others_are_renewed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(catalogue, "ask_own_suites", lambda: ["the archive cannot be asked: a wrong key"])
    monkeypatch.setattr(lookup, "renew", lambda bases: asked.extend(bases) or [])
    assert lab.night(hosts="5.10") == 0
    assert "Note: the archive cannot be asked: a wrong key" in capsys.readouterr().out
    assert asked == ["5.10"]


def test_the_newest_kernels_are_fetched(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(lookup, "renew", lambda bases: asked.extend(bases) or [])
    monkeypatch.setattr(lookup, "newest_series", lambda refresh: "7.3")
    lab.night(hosts="5.10,5.10+warning,newest,local")
    assert asked == ["5.10", "7.3"]


@pytest.mark.parametrize(("words", "line"), [(["--keep", "0"], "--keep must be"), (["--hosts", "foo"], "host 'foo'")])
def test_bad_words(lab: Lab, capsys: pytest.CaptureFixture[str], words: list[str], line: str) -> None:
    assert cli.main(["nightly", "--out", str(lab.out), *words]) == 2
    assert line in capsys.readouterr().err
    assert not lab.calls.exists()


def test_two_nights_never_overlap(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.out.mkdir()
    with FileLock(str(lab.out / "nightly.lock")):
        assert lab.night() == 125
    assert "another night is running" in capsys.readouterr().err
    assert not lab.calls.exists()


@pytest.mark.parametrize("where", ["running", nightly.FACTS, "index.html.*.partial"])
def test_a_full_disk_is_one_line_and_the_good_nights_stay(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    lab.night()
    page = (lab.out / "index.html").read_text()
    capsys.readouterr()

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    for name in ("mkdir", "write_text"):
        real = getattr(Path, name)
        monkeypatch.setattr(
            Path, name, lambda path, *a, real=real, **k: full(path) if path.match(where) else real(path, *a, **k)
        )
    assert lab.night() == 125
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert said.count("\n") == 1
    assert "2026-11-10" in lab.names
    assert (lab.out / "index.html").read_text() == page
    monkeypatch.undo()


def test_a_job_does_not_outlive_a_night_that_is_killed(lab: Lab, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from cpuidlab.commands import nightly\n"
        f"sys.executable = {str(tmp_path / 'python')!r}\n"
        f"nightly._job(Path({str(tmp_path)!r}, 'running'), '5.10', [])"
    )
    pid = Path(f"{lab.calls}.pid")
    environment = {**os.environ, "HOW": "hangs", "PYTHONPATH": str(TOOLING)}
    python = str(Path(sys.prefix) / "bin/python")
    with subprocess.Popen([python, "-c", program], env=environment) as process:
        try:
            until(lambda: pid.exists() and bool(pid.read_text()))
        finally:
            process.kill()
    until(lambda: ended(int(pid.read_text())))


def test_the_systemd_files_name_what_there_is() -> None:
    service = (TOOLING / "systemd/cpuidlab-nightly.service").read_text()
    line = next(line for line in service.splitlines() if line.startswith("ExecStart="))
    words = line.partition("cpuidlab nightly")[2].split()
    options = arguments.parser().parse_args(["nightly", *words])
    assert options.keep == 30
    assert (TOOLING / "systemd/cpuidlab-nightly.timer").exists()


def test_a_night_that_is_unreadable_does_not_stop_the_next(lab: Lab) -> None:
    lab.night()
    (lab.out / "2026-11-10" / nightly.FACTS).write_text("{")
    assert lab.night() == 0
    assert lab.names == ["2026-11-11"]
