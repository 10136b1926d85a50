"""Which QEMU carries nested hosts, and what becomes of a machine whose own cannot."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cpuidlab.base import artifact_gc
from cpuidlab.base.artifacts import NotMadeError, only_looking
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.kernels import aptfetch
from cpuidlab.kernels.suite import Suite
from cpuidlab.rig import host_qemu
from cpuidlab.rig.host_qemu import QEMU, READ_MISSED, READ_SEEN, sees_cr3_reads


@pytest.fixture(autouse=True)
def _untried() -> Iterator[None]:
    for known in (host_qemu.host_qemu, sees_cr3_reads):
        known.cache_clear()
    yield
    for known in (host_qemu.host_qemu, sees_cr3_reads):
        known.cache_clear()


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


def trials(monkeypatch: pytest.MonkeyPatch, own: int, fetched: int = READ_SEEN) -> None:
    """Answer the trial of this machine's QEMU with the exit code `own`, that of any other with `fetched`."""
    monkeypatch.setattr(host_qemu, "_run_trial", lambda program: own if program == QEMU else fetched)


def archive(monkeypatch: pytest.MonkeyPatch, error: LabError | None = None) -> list[tuple[str, Sequence[str]]]:
    """Stand in for the suite: one package with a QEMU. Return the list of what was asked for."""
    asked: list[tuple[str, Sequence[str]]] = []

    def fetch_whole(suite: Suite, names: Sequence[str], into: Path) -> None:
        asked.append((suite.name, names))
        if error:
            raise error
        for name in ("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", f"usr/bin/{QEMU}"):
            program = into / name
            program.parent.mkdir(parents=True)
            program.write_text('#!/bin/sh\necho "QEMU 7.2" "$QEMU_MODULE_DIR" "$@"\n')
            program.chmod(0o755)

    monkeypatch.setattr(aptfetch, "fetch_whole", fetch_whole)
    return asked


def test_the_machines_own_carries_hosts_where_it_sees_reads_of_cr3(monkeypatch: pytest.MonkeyPatch) -> None:
    trials(monkeypatch, READ_SEEN)
    asked = archive(monkeypatch)
    chosen = host_qemu.host_qemu()
    assert (chosen.program, chosen.binary, chosen.origin, asked) == (QEMU, Path(f"/usr/bin/{QEMU}"), "", [])


def test_where_it_misses_them_debian_12s_is_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trials(monkeypatch, READ_MISSED)
    asked = archive(monkeypatch)
    chosen = host_qemu.host_qemu()
    host_qemu.host_qemu.cache_clear()
    assert host_qemu.host_qemu() == chosen
    assert asked == [("bookworm", ("qemu-system-x86",))]
    assert chosen.version.startswith("QEMU 7.2 ") and chosen.version.endswith(", fetched from Debian's suite bookworm")
    assert chosen.binary.is_file()


def test_the_fetched_one_runs_with_its_own_libraries_modules_and_firmware(monkeypatch: pytest.MonkeyPatch) -> None:
    trials(monkeypatch, READ_MISSED)
    archive(monkeypatch)
    program = Path(host_qemu.host_qemu().program)
    root, lib = program.parent / "root", "lib/x86_64-linux-gnu"
    said = subprocess.run([program, "-m", "64"], capture_output=True, text=True, timeout=20, check=True).stdout.split()
    assert said[2:] == [
        f"{root}/usr/{lib}/qemu", "--library-path", f"{root}/{lib}:{root}/usr/{lib}", f"{root}/usr/bin/{QEMU}",
        "-L", f"{root}/usr/share/qemu", "-L", f"{root}/usr/share/seabios", "-m", "64",
    ]  # fmt: skip


def test_under_kvm_the_machines_own_carries_hosts_untried(monkeypatch: pytest.MonkeyPatch) -> None:
    trials(monkeypatch, READ_MISSED)
    asked = archive(monkeypatch)
    assert (host_qemu.qemu_for("kvm").program, asked) == (QEMU, [])
    assert host_qemu.qemu_for("tcg").origin


def test_a_look_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trials(monkeypatch, READ_MISSED)
    asked = archive(monkeypatch)
    with only_looking(), pytest.raises(NotMadeError):
        host_qemu.host_qemu()
    assert asked == []


def test_one_that_cannot_be_fetched_is_an_error_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trials(monkeypatch, READ_MISSED)
    archive(monkeypatch, LabError("apt cannot read bookworm from the mirror"))
    with pytest.raises(LabError, match="cannot read bookworm"):
        host_qemu.host_qemu()
    assert not list((tmp_path / "cache").glob("**/root"))


def test_a_fetched_one_that_misses_them_too_carries_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trials(monkeypatch, READ_MISSED, fetched=READ_MISSED)
    archive(monkeypatch)
    with pytest.raises(LabError, match=r"QEMU 7.2.* does not intercept a guest's reads of CR3 either"):
        host_qemu.host_qemu()


@pytest.mark.parametrize("code", [0, 1, 2 * ord("?") + 1, -9])
def test_another_end_of_the_trial_is_no_answer(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    trials(monkeypatch, code)
    with pytest.raises(LabError, match=f"ended with exit code {code}"):
        sees_cr3_reads(host_qemu.own_qemu())


@pytest.mark.parametrize("changed", ["kept_digest", "file_digest", "_FLAGS", "_MACHINE"])
def test_a_qemu_is_tried_once_and_again_where_it_or_the_trial_has_changed(
    monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(host_qemu, "_run_trial", lambda program: tried.append(program) or READ_MISSED)
    for tries in (1, 1, 2):
        sees_cr3_reads.cache_clear()
        if tries == 2:
            other = ("-other",) if changed.startswith("_") else lambda _: "another"
            monkeypatch.setattr(host_qemu, changed, other)
        assert not sees_cr3_reads(host_qemu.own_qemu())
        assert len(tried) == tries


def test_who_only_looks_is_told_and_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trials(monkeypatch, READ_SEEN)
    with only_looking():
        assert sees_cr3_reads(host_qemu.own_qemu())
    assert not (tmp_path / "cache/kvm-cpuid-lab/trials").exists()


def test_the_trials_of_two_qemus_are_both_current(monkeypatch: pytest.MonkeyPatch) -> None:
    trials(monkeypatch, READ_MISSED)
    archive(monkeypatch)
    host_qemu.host_qemu()
    assert [entry.stale for entry in artifact_gc.entries() if entry.kind == "trials"] == [False, False]


def test_a_machine_without_qemu_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(UsageError, match="is not installed; 'make setup'"):
        host_qemu.host_qemu()
