"""A real machine as a host: its settings, its log, and what other VMs on it log; this machine plays the part."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError, UnsupportedError
from cpuidlab.base.paths import GUESTS, TOOLING
from cpuidlab.kvm.kmsg import Record
from cpuidlab.kvm.warning import WARNING_LINES
from cpuidlab.rig import real_rig, real_setup
from cpuidlab.rig.guest_config import OLD_RNG, PROFILES, RNG, Profile
from cpuidlab.rig.machine_facts import MachineFacts
from cpuidlab.rig.reach import Reach
from cpuidlab.rig.real_host import RealHost
from cpuidlab.rig.real_rig import MachineTrial, RealRig, machine_trial, open_real_rig
from cpuidlab.rig.real_setup import RealSetup, may_reload
from cpuidlab.rig.rig import Stage
from cpuidlab.rig.saved_guest import Known
from cpuidlab.rig.settings import Setting
from cpuidlab.rig.streams import ChannelLines
from cpuidlab.rig.supervisor import Supervisor

LOCK = f"kvm-cpuid-lab selftest of hosts {os.getpid()}"
SETTING = "setting"


def facts(**other: str) -> MachineFacts:
    known = dict.fromkeys(MachineFacts.__dataclass_fields__, "")
    return MachineFacts(**(known | {"name": "lab1", "user": "ann", "root": "yes", "paging": "npt"} | other))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled supervisor and readout."""
    folder = tmp_path_factory.mktemp("programs")
    for source in (TOOLING / "supervisor/supervisor.c", GUESTS / "readout.c"):
        subprocess.run(["gcc", "-O2", "-static", "-o", folder / source.stem, source], check=True)
    return folder


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(20)


@pytest.fixture
def host(programs: Path, deadline: Deadline, tmp_path: Path) -> Iterator[RealHost]:
    """This machine as a host, with one setting; skipped where namespaces are not to be had."""
    (tmp_path / SETTING).write_text("N\n")
    reach = Reach("lab1")
    try:
        supervisor = Supervisor(reach, programs / "supervisor", deadline, LOCK)
    except LostVMError as error:
        if "does not let us make" in str(error):
            pytest.skip(str(error))
        raise
    supervisor.put("readout", (programs / "readout").read_bytes(), deadline, 0o700)
    machine = RealHost(reach, facts(), supervisor, supervisor.folder)
    yield machine
    machine.stop()


def test_a_setting_is_written_put_back_and_told(host: RealHost, deadline: Deadline, tmp_path: Path) -> None:
    path = tmp_path / SETTING
    for value in ("1", "0"):
        host.write_setting(str(path), value, deadline)
        assert path.read_text() == f"{value}\n"
    host.stop()
    assert path.read_text() == "N\n"
    assert host.settings.proofs(deadline) == (f"{path}: it was N, a test changed it, and it is N again",)


@pytest.mark.parametrize(("version", "words"), [("5.2.0", OLD_RNG), ("6.0.0", RNG), ("10.0.2", RNG)])
def test_an_old_qemu_gets_a_device_that_it_knows(host: RealHost, version: str, words: str) -> None:
    told = facts(qemu_version=f"QEMU emulator version {version}")
    assert RealHost(Reach("lab1"), told, host._supervisor, "/job").layout.rng == words


def test_a_setting_that_is_not_back_is_told_with_what_mends_it(
    host: RealHost, deadline: Deadline, tmp_path: Path
) -> None:
    path = tmp_path / SETTING
    host.write_setting(str(path), "1", deadline)
    host.stop()
    path.write_text("1\n")
    with pytest.raises(LabError, match=rf"{path} was N and is 1 now; put it back: sh -c"):
        host.settings.proofs(deadline)


def test_the_last_changed_setting_is_put_back_first(host: RealHost, deadline: Deadline, tmp_path: Path) -> None:
    for name in ("first", "second"):
        put_back = f"echo {name} >>{tmp_path}/order"
        host.settings.will_change(Setting(name, "", "true", put_back, f"{name} is back"), deadline)
    host.stop()
    assert (tmp_path / "order").read_text() == "second\nfirst\n"
    assert host.settings.proofs(deadline) == ("first is back", "second is back")


def test_only_root_writes_a_setting(host: RealHost, deadline: Deadline, tmp_path: Path) -> None:
    host.facts = facts(root="")
    with pytest.raises(UnsupportedError, match="ann has no sudo without a password"):
        host.write_setting(str(tmp_path / SETTING), "1", deadline)
    assert (tmp_path / SETTING).read_text() == "N\n"


def test_a_log_that_may_not_be_read_is_empty_and_says_what_would_allow_it(host: RealHost, deadline: Deadline) -> None:
    assert host.log_refused.startswith("ann may not read the kernel log of lab1; to allow it: ")
    (Path(host.layout.folder) / "hook.log").write_text("a line\n")
    text = host.run(f"readout host-log=/dev/kmsg hook-log={host.layout.hook_log}", deadline)
    assert text == "\x1ehost-log\n\x1ehook-log\na line\n"


def test_files_that_are_gone_after_a_boot_are_told_as_the_boot(host: RealHost, deadline: Deadline) -> None:
    Path(host.job_folder, "readout").unlink()
    with pytest.raises(LabError, match=r"readout: (not found|No such file)"):
        host.run("readout hook-log=/h", deadline)
    host.job_folder = "no-folder.of-this-boot"
    with pytest.raises(LabError, match="lab1 has booted anew since the job began; run the job again"):
        host.run("readout hook-log=/h", deadline)


def test_a_program_of_the_job_is_talked_to_and_ends_with_the_test(host: RealHost, deadline: Deadline) -> None:
    Path(host.job_folder, "barevm").write_text("#!/bin/sh\necho $$\nread -r line\necho $line\nread -r line\n")
    Path(host.job_folder, "barevm").chmod(0o700)
    lines = ChannelLines(host.open_program("barevm", deadline), host.watch)
    assert int(lines.recv_line(time.monotonic() + 10)) in host.threads(deadline)
    lines.send(b"open 0 /dev/kvm\n")
    assert lines.recv_line(time.monotonic() + 10) == "open 0 /dev/kvm"


def test_the_threads_are_those_of_the_folder(host: RealHost, deadline: Deadline) -> None:
    sleeper = subprocess.Popen(["sh", "-c", "sleep 60; :", host.layout.folder])
    try:
        assert sleeper.pid in host.threads(deadline)
        assert os.getpid() not in host.threads(deadline)
    finally:
        sleeper.kill()
        sleeper.wait()


def rig_with(threads: set[int], log: str = "", uptime: float = 0.0) -> RealRig:
    def run(command: str, *_: Any) -> str:
        return f"{uptime} 0.0\n" if "uptime" in command else f"\x1ehost-log\n{log}"

    machine = SimpleNamespace(layout=SimpleNamespace(folder="/f", hook_log="", console="", stderr="", exit=""))
    machine.log_refused, machine.threads, machine.run = "", lambda _: threads, run
    machine.facts = facts()
    return RealRig(SimpleNamespace(), machine, Deadline.after(20))  # type: ignore[arg-type]


@pytest.mark.parametrize(("number", "is_foreign"), [(70, False), (71, True)])
def test_a_line_of_another_vm_is_foreign(number: int, is_foreign: bool) -> None:
    text = f"kvm [{number}]: vcpu1, guest rIP: 0x1 Unhandled WRMSR(0x1) = 0x1"
    log = [Record(4, 0, 1, 1.0, "usb 1-1: new device"), Record(3, 0, 2, 2.0, text)]
    assert rig_with({70}).foreign_line(log) == (text if is_foreign else None)


@pytest.mark.parametrize(("age", "waits"), [(0.5, True), (4.9, True), (5.1, False)])
def test_the_window_of_the_rate_limit_is_waited_for(age: float, waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(Deadline, "pause", lambda _, seconds: slept.append(seconds))
    rig_with(set(), log=f"4,1,100000000,-;{WARNING_LINES[0]}\n", uptime=100 + age).await_quiet_log()
    assert (max(slept, default=0.0) > 0.05) is waits
    if waits:
        assert slept == [pytest.approx(5 - age, abs=0.2)]


def test_the_other_paging_mode_is_told_before_anything_is_touched() -> None:
    setup = SimpleNamespace(mismatch="lab1 runs kvm_amd with npt paging, not with shadow")
    with pytest.raises(UnsupportedError, match="lab1 runs kvm_amd with npt paging"):
        open_real_rig(setup, Stage.GUEST_READY, None, 10.0)  # type: ignore[arg-type]


def test_a_setup_knows_what_its_machine_does_not_run() -> None:
    def mismatch(paging: str, reload_kvm: bool = False) -> str:
        setup = RealSetup(None, paging, None, None, None, facts(module="kvm_amd"))  # type: ignore[arg-type]
        return may_reload(setup, reload_kvm).mismatch

    assert mismatch("npt") == ""
    why = "lab1 runs kvm_amd with npt paging, not with shadow; --reload-kvm would load it anew for the test"
    assert mismatch("shadow") == why
    assert mismatch("shadow", reload_kvm=True) == ""


class OpenedHost:
    """A machine on which it is this job's turn, as `open_real_rig` finds it; it keeps what it is asked to do."""

    def __init__(self, paging: str, boot: str = "b1") -> None:
        self.name, self.job_folder, self.log_refused = "lab1", "/job", ""
        self.facts = facts(module="kvm_amd", paging=paging, boot=boot)
        self.layout = SimpleNamespace(folder="/f", hook_log="", console="", stderr="", exit="")
        self.settings = SimpleNamespace(proofs=self._proofs)
        self.done: list[str] = []

    def _proofs(self, _: Deadline) -> tuple[str, ...]:
        self.done.append("looked")
        return ("npt is back",)

    def run(self, *_: Any) -> str:
        return "\x1ehost-log\n"

    def threads(self, _: Deadline) -> set[int]:
        return {70}

    def stop(self) -> None:
        self.done.append("stopped")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that opens a rig at HOST_READY on such a machine; `reload` does what it is told to."""

    def open_it(host: OpenedHost, paging: str, *, may: bool, reloads: Any = lambda *_: None) -> RealRig:
        monkeypatch.setattr(real_rig, "job_folder", lambda *_: "/job")
        monkeypatch.setattr(RealHost, "start", lambda *_: host)
        monkeypatch.setattr(real_rig, "reload", reloads)
        monkeypatch.setattr(real_rig, "machine_trial", lambda _: MachineTrial("", ""))
        setup: Any = SimpleNamespace(
            mismatch="", reach=None, cargo=None, paging=paging, reload_kvm=may, facts=facts(boot="b1")
        )
        return open_real_rig(setup, Stage.HOST_READY, PROFILES["small"], 10.0)

    return open_it


def test_the_module_is_loaded_anew_where_the_machine_runs_the_other_mode(opened: Any) -> None:
    asked: list[str] = []
    rig = opened(OpenedHost("npt"), "shadow", may=True, reloads=lambda host, paging, _: asked.append(paging))
    assert asked == ["shadow"]
    rig.close()
    assert rig.facts().settings == ("npt is back",)
    opened(OpenedHost("npt"), "npt", may=True, reloads=lambda *_: pytest.fail("nothing is to be loaded"))


def test_a_mode_that_another_job_has_changed_is_told(opened: Any) -> None:
    host = OpenedHost("npt")
    with pytest.raises(UnsupportedError, match="lab1 runs npt paging now, not shadow"):
        opened(host, "shadow", may=False)
    assert host.done == ["stopped", "looked"]


def test_settings_are_looked_at_where_the_rig_cannot_be_opened(opened: Any) -> None:
    def fail(*_: Any) -> None:
        raise LabError("modprobe failed")

    host = OpenedHost("npt")
    with pytest.raises(LabError, match="modprobe failed"):
        opened(host, "shadow", may=True, reloads=fail)
    assert host.done == ["stopped", "looked"]


@pytest.mark.parametrize("shared", [True, False])
def test_a_guest_that_serves_nobody_else_is_not_saved(
    opened: Any, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    done: list[str] = []
    saved = SimpleNamespace(make_ready=lambda: done.append("saved") or Known(9.0, 2.0))
    monkeypatch.setattr(real_rig, "SavedGuest", lambda *_: saved)
    monkeypatch.setattr(real_rig, "start_guest", lambda *_: done.append("started"))
    monkeypatch.setattr(real_rig, "run_guest", lambda *_: done.append("ran"))
    monkeypatch.setattr(real_rig, "is_shared", lambda _: shared)
    rig = opened(OpenedHost("npt"), "npt", may=False)
    rig.make_guest_ready(None)
    assert done == (["saved"] if shared else ["started", "ran"])
    assert rig.facts().boot == (9.0 if shared else 0.0)


@pytest.mark.parametrize(("free", "enough"), [("383", False), ("384", True), ("", True)])
def test_a_machine_with_too_little_memory_is_told_before_the_guest_starts(opened: Any, free: str, enough: bool) -> None:
    host = OpenedHost("npt")
    host.facts = facts(module="kvm_amd", boot="b1", free_mib=free)
    if enough:
        opened(host, "npt", may=False)
        return
    why = "lab1: the guest small has 384 MiB, and the machine has 383 MiB of free memory"
    with pytest.raises(UnsupportedError, match=why):
        opened(host, "npt", may=False)
    assert host.done == ["stopped", "looked"]


def test_a_machine_that_has_booted_anew_is_no_longer_the_jobs(opened: Any) -> None:
    with pytest.raises(LabError, match="lab1 has booted anew since the job began"):
        opened(OpenedHost("npt", boot="b2"), "npt", may=False)


def test_a_test_takes_the_facts_that_its_job_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Reach] = []
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(real_setup, "ask", lambda reach, _: asked.append(reach) or facts(release="6.1"))
    first, second = (real_setup._facts(Reach("lab1")) for _ in range(2))
    assert first == second == facts(release="6.1") and len(asked) == 1
    real_setup._facts(Reach("lab2"))
    assert len(asked) == 2


class TriedRig:
    """A rig for the trial, whose QEMU has said `said`."""

    def __init__(self, said: str) -> None:
        self._said = said

    def files(self) -> dict[str, str]:
        return {"qemu-stderr": self._said}

    def __enter__(self) -> "TriedRig":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing runs."""


INTERNAL = "KVM internal error. Suberror: 1\nemulation failure\nEAX=0\n"
REFUSED = "error: failed to set MSR 0x10a to 0x69\n"


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call with what QEMU says at each start; "" boots. Returns the trial's result and the CPUs."""

    def run(*says: str, module: str = "kvm_amd") -> tuple[MachineTrial, list[str]]:
        left, cpus = list(says), list[str]()

        def start(rig: TriedRig, profile: Profile) -> None:
            cpus.append(profile.cpu)
            if rig.files()["qemu-stderr"]:
                raise LabError("QMP broke off")

        monkeypatch.setattr(real_rig, "_open", lambda *_: TriedRig(left.pop(0)))
        monkeypatch.setattr(real_rig, "start_guest", start)
        monkeypatch.setattr(real_rig, "run_guest", lambda _: None)
        setup: Any = SimpleNamespace(
            name="local-shadow", identity=" ".join((module, *says)), facts=facts(name="local", module=module)
        )
        found = machine_trial(setup)
        assert machine_trial(setup) == found and left == []  # it is tried once
        return found, cpus

    return run


CPU = PROFILES["small"].cpu


def test_where_linux_boots_nothing_is_left_out(tried: Any) -> None:
    assert tried("") == (MachineTrial("", ""), [CPU])


def test_a_register_that_kvm_refuses_is_left_out_of_the_guests_cpu(tried: Any) -> None:
    without = f"{CPU},arch-capabilities=off"
    assert tried(REFUSED, "") == (MachineTrial(",arch-capabilities=off", ""), [CPU, without])
    assert MachineTrial(",arch-capabilities=off", "").on(PROFILES["highmem"]).cpu == without


def test_where_kvm_gives_linux_up_the_reason_is_kept(tried: Any) -> None:
    found, _ = tried(REFUSED, INTERNAL)
    why = "KVM internal error. Suberror: 1 emulation failure"
    assert found.no_linux == f"vCPUs run on local, and no Linux guest boots there: {why}"


@pytest.mark.parametrize("says", [("qemu: oops\n",), (REFUSED, REFUSED)])
def test_any_other_failure_is_the_labs(tried: Any, says: tuple[str, ...]) -> None:
    with pytest.raises(LabError, match="QMP broke off"):
        tried(*says)


def test_a_guest_that_stands_still_on_a_paravirtual_kvm_is_no_failure_of_the_lab(tried: Any) -> None:
    found, _ = tried(REFUSED, "a warning", module="kvm_pvm")
    assert found.no_linux == "vCPUs run on local, and no Linux guest boots there: kvm_pvm: QMP broke off"


def test_what_needs_no_linux_runs_where_none_boots(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Stage] = []

    def _open(_: object, stage: Stage, *__: object) -> Any:
        opened.append(stage)
        return SimpleNamespace(no_linux="")

    monkeypatch.setattr(real_rig, "_open", _open)
    monkeypatch.setattr(real_rig, "machine_trial", lambda _: MachineTrial("", "no Linux"))
    setup: Any = SimpleNamespace(mismatch="")
    assert open_real_rig(setup, Stage.GUEST_HELD, PROFILES["small"], 1.0).no_linux == "no Linux"
    with pytest.raises(UnsupportedError, match="no Linux"):
        open_real_rig(setup, Stage.GUEST_READY, PROFILES["small"], 1.0)
    assert opened == [Stage.GUEST_HELD]
