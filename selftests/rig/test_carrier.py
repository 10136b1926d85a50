"""What carries a nested host: QEMU's emulation, or this machine's KVM as the machine tells of it."""

from collections.abc import Callable
from typing import Any

import pytest
from cpuidlab.base.errors import UnsupportedError, UsageError
from cpuidlab.rig import carrier
from cpuidlab.rig.carrier import KVM, TCG, Carrier
from cpuidlab.rig.machine_facts import MachineFacts

EMPTY = dict.fromkeys(MachineFacts.__dataclass_fields__, "")
CPU = {"vendor_id": "AuthenticAMD", "model name": "AMD EPYC", "flags": "svm npt", "cpu MHz": "2400.1", "processor": "0"}
Carries = Callable[..., Carrier]


@pytest.fixture
def under_kvm(monkeypatch: pytest.MonkeyPatch) -> Carries:
    """What carries hosts on a machine with these facts and this CPU."""

    def carries(module: str = "kvm_amd", cpu: dict[str, str] | None = None, **facts: str) -> Carrier:
        monkeypatch.setattr(carrier, "ask", lambda *_: MachineFacts(**{**EMPTY, "module": module, **facts}))
        monkeypatch.setattr(carrier, "_cpu", lambda: {**CPU, **(cpu or {})})
        carrier.carrier.cache_clear()
        return carrier.carrier(KVM)

    return carries


def test_emulation_asks_nothing_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier, "ask", lambda *_: pytest.fail("the machine was asked"))
    assert carrier.carrier("tcg") == TCG
    assert (TCG.name, TCG.suffix, TCG.saved_by, TCG.cpu) == ("tcg", "", "", "EPYC,svm=on,npt=on")


@pytest.mark.parametrize(
    ("module", "name", "cpu", "words"),
    [
        ("kvm_amd", "kvm (amd)", "host,migratable=on,svm=on,npt=on", ["kvm_amd.npt=1", "kvm_amd.npt=0"]),
        ("kvm_intel", "kvm (intel)", "host,migratable=on,vmx=on", ["kvm_intel.ept=1", "kvm_intel.ept=0"]),
    ],
)
def test_kvm_is_named_with_its_vendor(under_kvm: Carries, module: str, name: str, cpu: str, words: list[str]) -> None:
    one = under_kvm(module)
    assert (one.accel, one.name, one.suffix, one.cpu) == ("kvm", name, "-kvm", cpu)
    assert [one.paging_word(one.paging(mode)) for mode in ("npt", "shadow")] == words
    assert one.paging("npt") == one.paging("ept") == one.two_dimensional
    with pytest.raises(UsageError, match="unknown paging mode 'both'"):
        one.paging("both")
    assert one.on_cpu("EPYC-Rome").cpu == f"EPYC-Rome,{cpu.removeprefix('host,migratable=on,')}"


def test_bochs_is_an_intel_cpu_on_any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier, "ask", lambda *_: pytest.fail("the machine was asked"))
    one = carrier.carrier("bochs")
    assert (one.name, one.suffix, one.saved_by, one.cpu) == ("bochs (intel)", "-bochs", "", "corei7_haswell_4770")
    assert [one.paging_word(one.paging(mode)) for mode in ("npt", "ept", "shadow")] == [
        "kvm_intel.ept=1", "kvm_intel.ept=1", "kvm_intel.ept=0",
    ]  # fmt: skip
    assert one.on_cpu("corei3_cnl").cpu == "corei3_cnl"
    assert one.patience > TCG.patience == 1


def test_emulation_has_no_ept() -> None:
    with pytest.raises(UsageError, match="unknown paging mode 'ept'; there are npt and shadow"):
        TCG.paging("ept")


@pytest.mark.parametrize(
    "other",
    [
        {"version": "Linux version 6.12 #2"},
        {"release": "6.12"},
        {"paging": "shadow"},
        {"cpu": {"model name": "Intel Xeon"}},
        {"cpu": {"flags": "svm"}},
        {"cpu": {"microcode": "0x1"}},
    ],
    ids=str,
)
def test_a_saved_host_belongs_to_the_cpu_and_the_kernel_of_the_machine(under_kvm: Carries, other: Any) -> None:
    assert under_kvm(**other).saved_by != under_kvm().saved_by


@pytest.mark.parametrize("same", [{"cpu MHz": "1800"}, {"processor": "3"}])
def test_what_differs_from_moment_to_moment_changes_no_saved_host(under_kvm: Carries, same: dict[str, str]) -> None:
    assert under_kvm(cpu=same) == under_kvm()


def test_a_machine_without_kvm_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> MachineFacts:
        raise UnsupportedError("this machine: it has no /dev/kvm")

    monkeypatch.setattr(carrier, "ask", ask)
    carrier.carrier.cache_clear()
    with pytest.raises(UnsupportedError, match="--accel kvm: this machine: it has no /dev/kvm"):
        carrier.carrier(KVM)


def test_a_kvm_of_another_kind_does_not_nest(under_kvm: Carries) -> None:
    with pytest.raises(UnsupportedError, match="--accel kvm: this machine runs kvm_pvm, in which no KVM of a host"):
        under_kvm("kvm_pvm")


def test_an_unknown_accelerator_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown accelerator 'hvf'; there are tcg, kvm, bochs"):
        carrier.carrier("hvf")


def test_the_first_processor_of_this_machine_is_read() -> None:
    assert carrier._cpu()["flags"]
    assert carrier.cpu_model() == carrier._cpu()["model name"]
