"""The plan of a job, and work that is done in parallel."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cpuidlab.avocado_plugin import all_hosts, plan, results
from cpuidlab.base import parallel
from cpuidlab.base.errors import LabError, UnsupportedError, UsageError
from cpuidlab.kernels import suites
from cpuidlab.rig.machine_facts import MachineFacts
from cpuidlab.rig.real_setup import RealSetup
from cpuidlab.rig.rig import GuestStart, RigFacts
from fakesetup import fake_setup


@pytest.fixture(autouse=True)
def _no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "setup", fake_setup)


def test_each_host_in_each_paging_mode() -> None:
    made = plan.plan("5.10, 5.10+warning", "npt,shadow")
    assert [one.name for one in made.variants] == [
        "5.10-npt", "5.10-shadow", "5.10+warning-npt", "5.10+warning-shadow",
    ]  # fmt: skip
    assert made.places[3] == ("5.10+warning", "shadow")


def test_a_host_named_twice_is_tested_once() -> None:
    assert [one.host for one in plan.plan("newest,7.3,newest", "npt").variants] == ["newest"]


def test_two_kernels_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "setup", lambda spec, paging, _: fake_setup("5.10+x", paging, digest=spec))
    with pytest.raises(UsageError, match=r"hosts 5.10\+/a/x.patch and 5.10\+/b/x.patch would both show as 5.10\+x"):
        plan.plan("5.10+/a/x.patch,5.10+/b/x.patch", "npt")


def test_an_era_for_one_host_counts_more_than_one_for_all() -> None:
    made = plan.plan("5.10,6.1", "npt", "6.1=silent,warn")
    assert {one.host: one.prediction.name for one in made.variants} == {"5.10": "warn", "6.1": "silent"}


def test_an_era_for_a_host_with_commas(tmp_path: Path) -> None:
    files = ["image.deb", "modules.deb"]
    for file in files:
        (tmp_path / file).touch()
    spec = "deb:" + ",".join(f"{tmp_path}/{file}" for file in files)
    made = plan.plan(f"5.10,{spec}", "npt", f"{spec}=silent, warn,")
    assert {one.host: one.prediction.name for one in made.variants} == {"5.10": "warn", spec: "silent"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("", "npt"), "--hosts names nothing"),
        (("5.10", " , "), "--paging names nothing"),
        (("5.10,foo", "npt"), "host 'foo' is not understood"),
        (("5.10", "npt,ept"), "unknown paging mode 'ept'; there are npt and shadow"),
        (("5.10", "npt", "gone"), "no era is named 'gone'"),
        (("5.10", "npt", "6.1=warn"), "--era names the host '6.1', which is not tested"),
        (("5.10", "npt", "deb:a,b=warn"), "--era names the host 'deb:a,b', which is not tested"),
        (("5.10", "npt", "5.10=warn,gone"), "no era is named 'gone'"),
    ],
)
def test_bad_words_are_refused_before_any_kernel_is_fetched(
    words: tuple[Any, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "setup", lambda *_: pytest.fail("a kernel was asked for"))
    with pytest.raises(UsageError, match=message):
        plan.plan(*words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "/no/file"}, "there is no file /no/file, which is named for --eras"),
        ({"reload_kvm": True}, "--reload-kvm is for real machines .*, and --hosts names none"),
    ],
)
def test_bad_options_are_refused_before_any_kernel_is_fetched(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "setup", lambda *_: pytest.fail("a kernel was asked for"))
    with pytest.raises(UsageError, match=message):
        plan.plan("5.10", "npt", **options)


def test_a_release_that_is_no_version_is_told_before_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(spec: str, paging: str, _: str) -> Any:
        one = fake_setup("5.10", paging)
        one.kernel.version = one.kernel.release = "next-20261101"
        return one

    monkeypatch.setattr(plan, "setup", odd)
    with pytest.raises(UsageError, match="cannot read a kernel version from 'next-20261101'"):
        plan.plan("tree:/a/linux", "npt")
    assert plan.plan("tree:/a/linux", "npt", "warn").variants[0].prediction.name == "warn"


def test_the_header_says_who_predicts_and_where_a_kernel_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "eras.toml").write_text('[releases]\n"5.10.0*" = "warn"\n')

    def own(spec: str, paging: str, _: str) -> Any:
        one = fake_setup("5.10", paging)
        one.kernel.spec = spec
        return one

    monkeypatch.setattr(plan, "setup", own)
    job = plan.plan("tree:/a/linux", "npt", table=str(tmp_path / "eras.toml"))
    header = results.header(job, 1.0, 0)
    assert header["predictions"] == f"era warn of 5.10 is named by '5.10.0*' in {tmp_path}/eras.toml"
    assert header["hosts"] == "5.10 is 5.10.0-amd64 from tree:/a/linux"


def test_the_header_says_which_suite_of_the_users_a_kernel_is_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kernels.toml").write_text('[[suites]]\nname = "own"\nmirror = "http://m.example/x"\nseries = ["6.1"]')
    suites.use(str(tmp_path / "kernels.toml"))

    def from_own(spec: str, paging: str, accel: str) -> Any:
        made = fake_setup(spec, paging, accel)
        made.kernel.suite = {"6.1": "own"}.get(spec, "trixie")
        return made

    monkeypatch.setattr(plan, "setup", from_own)
    told = results.header(plan.plan("6.1,6.12", "npt"), 1.0, 0)["hosts"]
    assert told == f"6.1 is 6.1.0-amd64 from the suite own of {tmp_path}/kernels.toml, 6.12 is 6.12.0-amd64"


def test_the_header_says_what_a_real_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    names = MachineFacts.__dataclass_fields__
    facts = MachineFacts(
        **(dict.fromkeys(names, "") | {"module": "kvm_amd", "paging": "npt", "qemu_version": "QEMU 9"})
    )

    def mixed(spec: str, paging: str, _: str) -> Any:
        nested = fake_setup("6.1", paging)
        if spec != "local":
            return nested
        kernel = fake_setup("5.10", paging).kernel
        kernel.label = kernel.digest = "local"
        return RealSetup(kernel, paging, nested.guest_kernel, None, None, facts)  # type: ignore[arg-type]

    monkeypatch.setattr(plan, "setup", mixed)
    job = plan.plan("local", "npt", reload_kvm=True)
    assert [isinstance(one.setup, RealSetup) and one.setup.reload_kvm for one in job.variants] == [True]
    rigs = [RigFacts(GuestStart.RESTORED, settings=("npt is back",))] * 2 + [
        RigFacts(GuestStart.BOOTED, trouble="full")
    ]
    real = results.header(job, 1.0, 0, rigs=rigs)
    assert real["machines"] == "local runs kvm_amd with npt paging, QEMU 9"
    assert real["rigs"] == "guests on real machines: booted for 1 test, restored for 2 tests"
    assert (real["settings"], real["guests not restored"]) == ("npt is back (2 tests)", "full")
    assert not {"carrier", "emulator"} & real.keys()
    both = results.header(plan.plan("local,6.1", "npt"), 1.0, 0, rigs=rigs[:1])
    assert both["rigs"] == "saved once, restored for every test; guests on real machines: restored for 1 test"
    assert "settings" not in results.header(plan.plan("local,6.1", "npt"), 1.0, 0)
    assert {"carrier", "emulator", "machines"} <= both.keys()


def test_the_accelerator_is_tried_before_all_else_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(plan, "check_accel", tried.append)
    made = plan.plan("5.10", "npt,ept", accel="kvm")
    assert (made.accel, tried) == ("kvm", ["kvm"])
    assert [variant.name for variant in made.variants] == ["5.10-npt-kvm", "5.10-ept-kvm"]
    assert made.places == (("5.10-kvm", "npt"), ("5.10-kvm", "ept"))
    head = results.header(made, 1.0, 0)
    assert head["accelerator"] == "kvm"
    assert head["carrier"].endswith(f" on this machine with {results.cpu_model()}")
    assert " with " not in results.header(plan.plan("5.10", "npt"), 1.0, 0)["carrier"]


def test_an_accelerator_that_this_machine_cannot_do_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise UnsupportedError("--accel kvm: no")

    monkeypatch.setattr(plan, "check_accel", refuse)
    with pytest.raises(UsageError, match="--accel kvm: no"):
        plan.plan("5.10", "npt", accel="kvm")
    for accel in ("kvm", "bochs"):
        with pytest.raises(UsageError, match=f"--accel {accel} is for nested hosts, and --hosts names none"):
            plan.plan("local", "npt", accel=accel)
    with pytest.raises(UsageError, match="unknown paging mode 'ept'"):
        plan.plan("5.10", "ept")


def test_cold_rigs_are_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("host_snapshot", "guest_snapshot", "probe"):
        monkeypatch.setattr(plan, name, lambda *_, name=name: done.append(name))
    one = SimpleNamespace(boot=None)
    variant: Any = SimpleNamespace(setup=one, name="5.10-npt", host="5.10", machine="")
    plan.prepare(plan.Plan((variant,), cold=True))
    assert done == []
    plan.prepare(plan.Plan((variant,), cold=False))
    assert done == ["host_snapshot", *["guest_snapshot"] * len(plan.PROFILES), "probe"]


def test_each_real_machine_has_slots_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_works", lambda *_: iter(()))
    monkeypatch.setattr(plan, "rigs_at_once", lambda: 5)
    machines = {"a-npt": "ssh://a", "a-shadow": "ssh://a", "b-npt": "ssh://b", "6.1-npt": "", "7.3-npt": ""}
    variants: Any = tuple(SimpleNamespace(setup=None, name=name, machine=there) for name, there in machines.items())
    making = plan.prepare(plan.Plan(variants, cold=False))
    slots = {name: making.slots_of(name) for name in machines}
    assert {name: found and found.number for name, found in slots.items()} == {
        "a-npt": 2, "a-shadow": 2, "b-npt": 2, "6.1-npt": 5, "7.3-npt": 5,
    }  # fmt: skip
    assert slots["a-npt"] is slots["a-shadow"] is not slots["b-npt"]
    assert slots["6.1-npt"] is slots["7.3-npt"]


def test_the_first_host_is_ready_and_a_host_in_trouble_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def freeze(setup: Any) -> None:
        if setup.kernel.label == "6.1":
            raise LabError("6.1 does not boot")

    monkeypatch.setattr(plan, "host_snapshot", freeze)
    for name in ("guest_snapshot", "probe"):
        monkeypatch.setattr(plan, name, lambda *_: None)
    making = plan.prepare(plan.plan("6.1,5.10", "npt,shadow"))
    assert str(making.wait("6.1-npt")) == str(making.wait("6.1-shadow")) == "6.1 does not boot"
    assert making.wait("5.10-npt") is None
    with pytest.raises(LabError, match="does not boot"):
        plan.prepare(plan.plan("6.1", "npt,shadow"))


def test_all_hosts_go_on_without_a_kernel_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def setup(spec: str, paging: str, _: str) -> Any:
        if spec == "6.1":
            raise LabError("no mirror")
        return fake_setup(spec, paging)

    monkeypatch.setattr(plan, "setup", setup)
    monkeypatch.setattr(all_hosts, "every_host", lambda *_: ("5.10", "6.1"))
    monkeypatch.setattr(all_hosts.catalogue, "catalogue", list)
    made = plan.plan("all", "npt")
    assert [one.name for one in made.variants] == ["5.10-npt"]
    assert made.left_out == (("6.1", "no mirror"),)
    with pytest.raises(LabError, match="no mirror"):
        plan.plan("all,6.1", "npt")
    monkeypatch.setattr(all_hosts, "every_host", lambda *_: ("6.1",))
    with pytest.raises(LabError, match="no mirror"):
        plan.plan("all", "npt")


def test_a_paging_mode_that_this_machine_cannot_do_is_left_out_unless_it_alone_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def setup(spec: str, paging: str, _: str) -> Any:
        if paging == "shadow":
            raise UnsupportedError("this QEMU cannot")
        return fake_setup(spec, paging)

    monkeypatch.setattr(plan, "setup", setup)
    made = plan.plan("5.10,6.1", "npt,shadow")
    assert [one.name for one in made.variants] == ["5.10-npt", "6.1-npt"]
    assert made.left_out == (("--paging shadow", "this QEMU cannot"),)
    assert capsys.readouterr().err.count("--paging shadow is left out") == 1
    with pytest.raises(UsageError, match="this QEMU cannot"):
        plan.plan("5.10", "shadow")


# work in parallel


def test_works_run_at_the_same_time_and_all_are_done() -> None:
    meeting = threading.Barrier(2, timeout=10)
    parallel.in_parallel([meeting.wait] * 4, at_once=2)


def test_after_a_failure_nothing_is_begun() -> None:
    begun: list[int] = []

    def fail() -> None:
        raise LabError("no boot")

    with pytest.raises(LabError, match="no boot"):
        parallel.in_parallel([fail, lambda: begun.append(1)], at_once=1)
    assert begun == []


def test_memory_limits_the_rigs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    for available, rigs in ((0, 1), (3 * parallel.RIG_BYTES + 1, 3), (100 * parallel.RIG_BYTES, 8)):
        memory = SimpleNamespace(available=available)
        monkeypatch.setattr("psutil.virtual_memory", lambda memory=memory: memory)
        assert parallel.rigs_at_once() == rigs
