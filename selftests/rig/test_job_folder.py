"""The folder of a job on a machine: made once, found by the job's tests, gone with the job. The machine is this one."""

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from cpuidlab.base.errors import LabError, UnsupportedError
from cpuidlab.base.paths import TOOLING
from cpuidlab.rig import job_folder as under_test
from cpuidlab.rig.job_folder import Cargo, job_folder
from cpuidlab.rig.reach import Reach
from waiting import until

HERE = Reach("lab1")
# A job: it makes its folder, tells where it is, and ends when its standard input does.
JOB = """
import sys
from pathlib import Path
from cpuidlab.rig.job_folder import Cargo, job_folder
from cpuidlab.rig.reach import Reach
print(job_folder(Reach("lab1"), "true", Cargo(*map(Path, sys.argv[1:]))), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cargo(tmp_path_factory: pytest.TempPathFactory) -> Cargo:
    """What is brought, in small."""
    folder = tmp_path_factory.mktemp("cargo")
    supervisor = folder / "supervisor"
    subprocess.run(["gcc", "-O2", "-static", "-o", supervisor, TOOLING / "supervisor/supervisor.c"], check=True)
    (folder / "empty.c").write_text("")
    subprocess.run(["gcc", "-shared", "-o", folder / "hook", folder / "empty.c"], check=True)
    for name in ("readout", "barevm", "kernel"):
        (folder / name).write_text(name)
    (folder / "initrd").write_bytes(gzip.compress(b"the image"))
    return Cargo(supervisor, *(folder / name for name in ("readout", "barevm", "hook", "kernel", "initrd")))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[under_test.Supervisor]]:
    """Leave no variable behind, and end what a test has made; the list is what was made."""
    made: list[under_test.Supervisor] = []
    monkeypatch.setattr(os, "environ", dict(os.environ))
    at_exit = SimpleNamespace(register=lambda close: made.append(close.__self__))
    monkeypatch.setattr(under_test, "atexit", at_exit)  # this module's alone: others register too
    yield made
    for supervisor in made:
        supervisor.close()


def test_it_is_made_once_and_holds_what_tests_need(cargo: Cargo) -> None:
    folder = Path(job_folder(HERE, "true", cargo))
    assert Path(job_folder(HERE, "true", cargo)) == folder
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in folder.iterdir()} == {
        "supervisor": "0o700", "readout": "0o700", "barevm": "0o700", "cpuidhook.so": "0o700",
        "vmlinuz": "0o600", "initrd": "0o600",
    }  # fmt: skip
    assert (folder / "initrd").read_bytes() == b"the image"
    assert Path(job_folder(Reach("lab2"), "true", cargo)) != folder
    assert not under_test.is_shared(str(folder)) and under_test.is_shared("/another/process/has/made/it")


def test_a_test_whose_job_has_lost_the_machine_makes_one_of_its_own(
    cargo: Cargo, environment: list[under_test.Supervisor]
) -> None:
    first = job_folder(HERE, "true", cargo)
    environment[0].close()
    second = job_folder(HERE, "true", cargo)
    assert second != first and Path(second).exists() and not Path(first).exists()


def test_nothing_is_brought_to_a_machine_that_has_booted_anew(
    cargo: Cargo, environment: list[under_test.Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_folder(HERE, "true", cargo)
    variable, folder = next((name, value) for name, value in os.environ.items() if name.startswith("CPUIDLAB_FOLDER_"))
    head, _, rest = folder.split(".", 2)
    monkeypatch.setitem(os.environ, variable, f"{head}.01234567.{rest}")
    with pytest.raises(LabError, match="lab1 has booted anew since the job began; run the job again"):
        job_folder(HERE, "true", cargo)
    assert len(environment) == 1


def test_whether_the_hook_loads_is_asked_of_qemu(cargo: Cargo, tmp_path: Path) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text('#!/bin/sh\necho "no GLIBC_2.34 for ${LD_PRELOAD##*/} $1" >&2\n')
    qemu.chmod(0o755)
    here = Reach("lab1", ("env", f"TMPDIR={tmp_path}", "sh", "-c"))
    told = "lab1: the hook cannot be loaded there: no GLIBC_2.34 for cpuidhook.so --version"
    with pytest.raises(UnsupportedError, match=told):
        job_folder(here, str(qemu), cargo)
    until(lambda: [file.name for file in tmp_path.iterdir()] == ["qemu"])


@pytest.mark.parametrize("way", ["end", "kill"])
def test_it_goes_with_the_job(cargo: Cargo, way: str) -> None:
    words = [sys.executable, "-c", JOB, *map(str, vars(cargo).values())]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdin and job.stdout
        folder = Path(job.stdout.readline().strip())
        assert (folder / "vmlinuz").read_text() == "kernel"
        if way == "kill":
            job.send_signal(signal.SIGKILL)
        else:
            job.stdin.close()
    if way == "kill":
        until(lambda: not folder.exists())
    assert not folder.exists()
