"""`cpuidlab try` on a stand-in for the rig: the real story, expectations and judge, and what is printed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.commands import cli, try_change
from cpuidlab.experiment.observation import Probe
from cpuidlab.judge.eras import era
from cpuidlab.kvm.warning import WARNING_LINES
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.rig import GuestStart, RigFacts
from fakerig import FakeRig


def rig_of(errno: int = 0, lines: Sequence[str] = ()) -> FakeRig:
    """A kernel that accepts or refuses, warns or not."""
    rig = FakeRig()
    rig.hook.errno, rig.hook.lines = errno, lines
    return rig


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What a trial finds."""
    found = SimpleNamespace(rig=FakeRig(), version="5.10.262-1", probes=0, asked=[])

    def setup(host: str, paging: str, _: str) -> Any:
        release = found.version.partition("-")[0]
        kernel = SimpleNamespace(spec=host, label=host, release=release, version=found.version, suite="")
        return SimpleNamespace(kernel=kernel, paging=paging, accel="tcg", boots_guests=False, patience=1.0)

    @contextmanager
    def open_rig(*words: Any) -> Iterator[FakeRig]:
        found.asked.append(words[1:3] + words[4:])
        yield found.rig

    def probe(_: Any) -> Probe:
        found.probes += 1
        return Probe("accepted", "EINVAL" if found.rig.hook.errno else "accepted", 0, 0)

    monkeypatch.setattr(try_change, "setup", setup)
    monkeypatch.setattr(try_change, "open_rig", open_rig)
    monkeypatch.setattr(try_change, "probe", probe)
    return found


def tell(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(["try", "--host", "5.10", *words])
    return code, capsys.readouterr().out


def test_an_accepted_change_is_told_from_host_to_verdict(
    lab: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = tell(capsys, "--change", "maxphyaddr=36", "--paging", "shadow")
    assert code == 0
    heads = [line[:11].strip() for line in said.splitlines() if line[0] != " "]
    assert heads == [
        "host", "kernel", "predicted", "change", "KVM says", "host log", "CPUID now", "guest", "promised", "PASS",
    ]  # fmt: skip
    assert "vCPU 0, 1: leaf 0x80000008 EAX: 0x00003028 -> 0x00003024 (maxphyaddr 40 -> 36)" in said
    assert "vCPU 1: accepted" in said and "shadow" in said
    assert lab.asked == [("guest_ready", "small", False)] and lab.probes == 0


def test_what_was_changed_on_the_machine_is_told(
    lab: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab.rig, "facts", lambda: RigFacts(GuestStart.BOOTED, settings=("npt is back",)))
    assert "settings   npt is back" in tell(capsys, "--change", "maxphyaddr=36")[1]


def test_kvm_of_a_nested_host_is_not_loaded_anew(lab: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["try", "--host", "5.10", "--reload-kvm"]) == 2
    assert "--reload-kvm is for real machines (local, ssh://HOST), and 5.10 is none" in capsys.readouterr().err
    command = try_change.Trial("local", reload_kvm=True).command
    assert command == ".venv/bin/cpuidlab try --host local --paging npt --profile small --reload-kvm"


@pytest.mark.parametrize(
    ("paging", "promised"), [("npt", "nobody promises what becomes of the guest"), ("shadow", "dies or is harmed")]
)
def test_a_guest_that_dies(
    paging: str, promised: str, lab: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.rig.dies = True
    code, said = tell(capsys, "--change", "maxphyaddr=32", "--profile", "highmem", "--paging", paging)
    assert code == 0
    assert "died: triple fault (KVM_EXIT_SHUTDOWN), 0.4 s after the change" in said and "nobody is left to ask" in said
    assert promised in said


def test_only_with_shadow_paging_must_the_guest_suffer(
    lab: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--change", "maxphyaddr=32", "--profile", "highmem", "--cold"]
    assert tell(capsys, *words)[0] == 0
    lab.rig = FakeRig()
    code, said = tell(capsys, *words, "--paging", "shadow")
    assert code == 1
    assert "the guest took no harm instead of dying or living on, harmed" in said
    assert "rerun: .venv/bin/cpuidlab try --host 5.10 --change maxphyaddr=32 --paging shadow --profile highmem" in said
    assert lab.asked[0][2] is True and lab.probes == 0


def test_a_refusal_by_an_old_version_is_a_backport(lab: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    lab.rig = rig_of(errno=22)
    code, said = tell(capsys, "--change", "maxphyaddr=36")
    assert code == 0 and lab.probes == 1
    assert "WARN" in said and "behaves as forbid-changed" in said
    assert "the one from before" in said


@pytest.mark.parametrize(("lines", "code"), [(WARNING_LINES, 0), (WARNING_LINES[:1], 1)])
def test_both_lines_are_due_where_the_user_names_the_era(
    lines: tuple[str, ...], code: int, lab: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.rig = rig_of(lines=lines)
    got, said = tell(capsys, "--era", "warn")
    assert got == code
    assert "named by --era" in said and f"<4> {WARNING_LINES[0]}" in said
    assert "none: the same CPUID once more" in said


def test_the_evidence_is_kept(lab: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(capsys, "--change", "nx=off", "--evidence", str(tmp_path / "new"))
    assert {"observation.json", "models-diff.txt", "hook-log.txt"} <= {file.name for file in tmp_path.glob("new/*")}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--change", "foo"], "unknown change 'foo'"),
        (["--profile", "huge"], "no profile 'huge'; known: small, highmem"),
        (["--change", "sev_cbit=47"], "sev_cbit=47 changes nothing"),
        (["--eras", "/no/file"], "there is no file /no/file"),
        (["--era", "loud"], "no era is named 'loud'"),
    ],
)
def test_bad_words_are_one_line_and_2(
    words: list[str], line: str, lab: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["try", "--host", "5.10", *words]) == 2
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1


def test_a_guest_that_nobody_reaches_is_125(lab: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    lab.rig.login_fails = LostVMError("the host is gone")
    lab.rig.host_lost = True
    assert tell(capsys, "--change", "maxphyaddr=36")[0] == 125


def test_a_lost_rig_is_125(lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any) -> Any:
        raise LabError("the host is gone")

    monkeypatch.setattr(try_change, "open_rig", lost)
    assert cli.main(["try", "--host", "5.10"]) == 125


@pytest.mark.parametrize(
    ("change", "name", "answer", "guest"),
    [
        ("", "forbid-changed", "accepted", "stable"),
        ("padding,runtime_bits", "forbid-changed", "accepted", "stable"),
        ("padding,nx=off", "forbid-changed", "EINVAL", "stable"),
        ("nx=off", "silent", "accepted", None),
        ("vaddr_width=40", "silent", "EINVAL", "stable"),
        ("vaddr_width=57", "silent", "accepted", None),
        ("linear_bits=40", "silent", "EINVAL", "stable"),
        ("maxphyaddr=0x20", "silent", "accepted", "suffers"),
        ("osxsave=off", "forbid-changed", "accepted", "stable"),
        ("pku=on", "forbid-changed", "EINVAL", "stable"),
        ("maxphyaddr=33", "silent", "accepted", None),
        ("maxphyaddr=32", "silent", "accepted", "suffers"),
        ("maxphyaddr=32", "forbid-changed", "EINVAL", "stable"),
    ],
)
def test_what_is_promised(change: str, name: str, answer: str, guest: str | None) -> None:
    due = try_change.promise_of(change, PROFILES["highmem"], "shadow")(era(name))
    assert (due.answer, due.guest) == (answer, guest)
    due = try_change.promise_of(change, PROFILES["highmem"], "npt")(era(name))
    assert (due.answer, due.guest) == (answer, None if guest == "suffers" else guest)
