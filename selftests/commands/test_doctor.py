"""The doctor's checks against machines that lack something: a fake QEMU, a fake dpkg-query, a full or closed cache."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
from cpuidlab.base import artifacts
from cpuidlab.base.errors import LabError, UnsupportedError
from cpuidlab.commands import doctor, doctor_kvm
from cpuidlab.commands.doctor_kvm import Emulation
from cpuidlab.rig import host_qemu
from cpuidlab.rig.host_qemu import HostQemu

GREETING = {"QMP": {"version": {"qemu": {"major": 8, "minor": 2, "micro": 1}, "package": "Debian 8.2"}}}
QEMU_8 = Emulation("8.2.1 Debian 8.2", svm=True, npt=True)


def fake(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program before all others on PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    fake(tmp_path / "bin", doctor_kvm.QEMU, script, monkeypatch)


@pytest.mark.parametrize(("svm", "npt"), [(True, True), (True, False), (False, False)])
def test_the_features_of_the_emulated_vcpu_are_read_in_order(
    svm: bool, npt: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [GREETING, {"return": {}}, {"return": svm}, {"return": npt}, {"return": {}}]
    (tmp_path / "answers").write_text("\n".join(map(json.dumps, answers)))
    fake_qemu(tmp_path, monkeypatch, f"cat >/dev/null; cat {tmp_path}/answers")
    assert doctor_kvm.ask_emulation() == Emulation("8.2.1 Debian 8.2", svm, npt)
    check = doctor._tcg_svm(doctor_kvm.ask_emulation())
    assert (check.ok, check.required) == (svm and npt, True)


@pytest.mark.parametrize(
    ("answer", "ok", "found"),
    [
        (True, True, "this QEMU carries hosts under nested and under shadow paging"),
        (False, True, "hosts run under the QEMU of Debian's suite bookworm"),
        (LabError("gcc failed"), False, "could not be tried: gcc failed"),
    ],
)
def test_a_qemu_that_cannot_carry_each_paging_mode_is_no_lack_of_the_machine(
    answer: bool | LabError, ok: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sees_cr3_reads(_qemu: HostQemu) -> bool:
        if isinstance(answer, LabError):
            raise answer
        return answer

    monkeypatch.setattr(host_qemu, "sees_cr3_reads", sees_cr3_reads)
    check = doctor._host_qemu(QEMU_8)
    assert (check.ok, check.required) == (ok, False)
    assert found in check.found
    assert not doctor._host_qemu(Emulation("8", svm=False, npt=False)).ok


def test_qemu_that_does_not_start_is_a_required_lack_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu(tmp_path, monkeypatch, "echo 'qemu: cannot load libfoo' >&2; exit 1")
    asked = doctor_kvm.ask_emulation()
    assert asked == Emulation("", svm=False, npt=False, complaint="qemu: cannot load libfoo")
    check = doctor._qemu(asked)
    assert (check.ok, check.required, check.mend) == (False, True, "make setup")


def test_no_qemu_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not installed" in doctor_kvm.ask_emulation().complaint


@pytest.mark.parametrize(
    ("output", "runs", "story"),
    [
        ("Linux version 6.1\\nVFS: Unable to mount root fs on unknown-block", True, "a Linux guest boots on it"),
        ("Linux version 6.1\\n", False, "does not finish booting"),
        ("qemu: error: failed to set MSR\\nqemu: Assertion failed\\n", False, "qemu: error: failed to set MSR"),
    ],
)
def test_a_guest_is_tried_and_judged_by_what_it_said(
    output: str, runs: bool, story: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu(tmp_path, monkeypatch, f"printf '{output}'")
    trial = doctor_kvm._boot_kernel(tmp_path / "vmlinuz")
    assert trial.runs is runs
    assert story in trial.story


def test_a_guest_that_hangs_is_ended_and_its_words_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_kvm, "KERNEL_SECONDS", 0.3)
    fake_qemu(tmp_path, monkeypatch, "echo Linux version 6.1; exec sleep 30")
    assert "does not finish booting" in doctor_kvm._boot_kernel(tmp_path / "vmlinuz").story


def test_without_a_kernel_the_bios_is_tried_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_qemu(tmp_path, monkeypatch, "echo 'SeaBIOS (version 1.16.2)'")
    trial = doctor_kvm._boot_bios()
    assert trial.runs
    assert "Linux was not tried" in trial.story


@pytest.mark.parametrize(
    ("kernel", "answer", "found", "mend"),
    [
        ("6.1", None, "use --accel kvm instead of emulation", ""),
        ("6.1", UnsupportedError("kvm_amd does not load"), "kvm_amd does not load; not needed", "as told"),
        ("6.1", LabError("disk full"), "disk full; not needed", "as told"),
        (None, None, "not tried: kernel 6.1 is not here yet", "make smoke"),
    ],
)
def test_nesting_is_tried_and_recommended_where_it_works(
    kernel: str | None, answer: Exception | None, found: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_accel(accel: str) -> None:
        assert (accel, kernel) == ("kvm", "6.1")
        if answer:
            raise answer

    monkeypatch.setattr("cpuidlab.kernels.lookup.known", lambda _: kernel)
    monkeypatch.setattr("cpuidlab.rig.host_config.check_accel", check_accel)
    monkeypatch.setattr(doctor, "_allow_nesting", lambda: "as told")
    check = doctor._nesting(doctor.Check("kvm", True, False, "a Linux guest boots on it"))
    assert (check.ok, check.required, check.mend) == (not mend, False, mend)
    assert found in check.found


def test_nesting_is_not_tried_where_no_guest_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpuidlab.rig.host_config.check_accel", lambda _: pytest.fail("it was tried"))
    check = doctor._nesting(doctor.Check("kvm", False, False, "no /dev/kvm"))
    assert (check.ok, check.found.partition(":")[0]) == (False, "not tried")


def test_a_trial_is_kept_until_qemu_or_the_kernel_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu(tmp_path, monkeypatch, f"echo once >>{tmp_path}/runs; echo Unable to mount root fs")
    monkeypatch.setattr(doctor_kvm, "_device", lambda: "1")
    kernel, memory = tmp_path / "vmlinuz", cache / "doctor" / "kvm-trial.json"

    def runs_after(emulation: Emulation, kernel: Path) -> int:
        assert doctor_kvm.try_kvm(emulation, kernel, memory).runs
        return len((tmp_path / "runs").read_text().splitlines())

    assert [runs_after(QEMU_8, kernel), runs_after(QEMU_8, kernel)] == [1, 1]
    assert runs_after(Emulation("9.0", svm=True, npt=True), kernel) == 2
    assert runs_after(QEMU_8, tmp_path / "other") == 3
    memory.write_text('{"key": ')
    assert runs_after(QEMU_8, tmp_path / "other") == 4
    assert [path.name for path in memory.parent.iterdir()] == [memory.name]


def test_missing_packages_are_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "bin", "dpkg-query", "echo ' installed=gcc  installed=make '", monkeypatch)
    fake(tmp_path / "bin", "apt-cache", "echo Candidate: 1.0", monkeypatch)
    check = doctor._packages()
    assert not check.ok
    assert "cpuid" in check.found.split()
    assert not {"gcc", "make"} & set(check.found.split())
    assert "apt-get install -y --no-install-recommends qemu-system-x86" in check.mend


def test_a_cache_that_cannot_be_read_holds_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_arguments: object) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "glob", denied)
    assert doctor._kernels().found == "cached: none"
    assert doctor._newest_kernel() is None


def test_a_cache_that_cannot_be_used_is_one_required_lack(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("a file stands where the folder should be")
    [check] = doctor._cache()
    assert (check.name, check.ok, check.required) == ("cache", False, True)
    assert "XDG_CACHE_HOME" in check.mend
    cache.unlink()

    def full(**_arguments: object) -> IO[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    [check] = doctor._cache()
    assert (check.ok, check.required) == (False, True)
    assert "No space left" in check.found


def test_nobody_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(doctor, "cache_dir", no_home)
    [check] = doctor._cache()
    assert "home directory" in check.found
    assert doctor._cached_kernels() == []


@pytest.mark.parametrize(("free", "ok", "required"), [(0.5, False, True), (3, False, False), (50, True, False)])
def test_room_on_the_disk(free: float, ok: bool, required: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    room = SimpleNamespace(f_bavail=int(free * doctor.GIB / 4096), f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _folder: room)
    disk = list(doctor._cache())[-1]
    assert (disk.name, disk.ok, disk.required) == ("disk", ok, required)


@pytest.mark.parametrize(("as_json", "required", "code"), [(False, True, 2), (False, False, 0), (True, True, 2)])
def test_only_a_required_lack_is_exit_2(
    as_json: bool, required: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [doctor.Check("one", True, True, "fine"), doctor.Check("two", False, required, "bad", "do this")]
    monkeypatch.setattr(doctor, "diagnose", lambda: iter(checks))
    assert doctor.main(as_json) == code
    said = capsys.readouterr()
    assert ("first mend: two" in said.err) is required
    if as_json:
        last = json.loads(said.out)["checks"][1]
        assert last == {"name": "two", "ok": False, "required": True, "found": "bad", "mend": "do this"}
    else:
        assert "mend: do this" in said.out


@pytest.mark.parametrize(
    ("built", "lack", "ok", "found"),
    [
        (True, "g++", True, "with kvm_intel on any machine"),
        (False, "", True, "the first job builds Bochs"),
        (False, "g++", False, "not needed: --accel bochs runs hosts with kvm_intel on any machine, and needs g++"),
    ],
)
def test_what_an_intel_host_needs_is_told_and_never_required(
    built: bool, lack: str, ok: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bochs() -> None:
        assert artifacts._only_looking.get()
        if not built:
            raise artifacts.NotMadeError("bochs")

    monkeypatch.setattr("cpuidlab.rig.bochs.bochs", bochs)
    monkeypatch.setattr("cpuidlab.rig.bochs.lacking", lambda: lack)
    check = doctor._bochs()
    assert (check.ok, check.required, check.mend) == (ok, False, "" if ok else "sudo apt-get install g++")
    assert found in check.found
