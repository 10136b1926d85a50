"""What a host is made of, and what of that makes another snapshot."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.rig import host_config, images, qemu_command
from cpuidlab.rig.bochs_vm import BochsMachine
from cpuidlab.rig.carrier import ON_BOCHS, TCG, Carrier
from cpuidlab.rig.host_config import Setup
from cpuidlab.rig.host_qemu import HostQemu
from cpuidlab.rig.host_vm import QemuMachine
from cpuidlab.rig.keys import Keys
from cpuidlab.rig.qemu_command import cold_words, qemu_identity, restore_words

ON_INTEL = Carrier("kvm", "host,vmx=on", "kvm_intel", "this machine")


def kernel(label: str, digest: str = "digest") -> Kernel:
    modules = Path("/modules")
    return Kernel(label, label, f"{label}.0-amd64", f"{label}.1-1", "bookworm", Path("/vmlinuz"), modules, digest)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Setup:
    """A setup whose images are not made."""
    for name in ("host_key", "client_key.pub"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(host_config, "qemu_identity", lambda accel, cpu: f"qemu {accel} {cpu}")
    monkeypatch.setattr(images, "hook_library", lambda: Path("/hook.so"))
    monkeypatch.setattr(images, "host_base", lambda keys, guest, _: Path(f"/base-{keys.digest}-{guest.digest}/initrd"))
    monkeypatch.setattr(
        images, "host_image", lambda kernel, base, programs: Path(f"/image-{kernel.label}{''.join(programs)}")
    )
    return Setup(kernel("5.10+warning"), "npt", kernel("6.1"), Keys(tmp_path))


def test_the_name_is_kernel_and_paging(on: Setup) -> None:
    assert (on.name, on.accel, on.machine) == ("5.10+warning-npt", "tcg", QemuMachine)


@pytest.mark.parametrize(("paging", "word"), [("npt", "kvm_amd.npt=1"), ("shadow", "kvm_amd.npt=0")])
def test_the_paging_mode_is_a_word_of_the_kernels(on: Setup, paging: str, word: str) -> None:
    assert replace(on, paging=paging).words.split()[-1] == word


def test_under_kvm_the_name_the_words_and_the_machine_say_so(on: Setup) -> None:
    other = replace(on, carrier=ON_INTEL, paging="ept")
    assert (other.name, other.accel) == ("5.10+warning-ept-kvm", "kvm (intel)")
    assert (other.column, on.column) == ("5.10+warning-kvm", "5.10+warning")
    assert other.words.split()[-1] == "kvm_intel.ept=1"
    assert (other.boot.accel, other.boot.cpu) == ("kvm", "host,vmx=on")
    assert "q35,accel=kvm,memory-backend=ram" in cold_words(7, other.boot)
    assert "q35,accel=tcg,memory-backend=ram" in cold_words(7, on.boot)


def test_under_bochs_the_machine_is_another_and_its_image_has_the_serial_line(
    on: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(images, "tcpline", lambda: Path("/tcpline"))
    monkeypatch.setattr(host_config.bochs_command, "identity", lambda model: f"bochs {model}")
    other = replace(on, carrier=ON_BOCHS, paging="ept")
    assert (other.name, other.accel, other.machine) == ("5.10+warning-ept-bochs", "bochs (intel)", BochsMachine)
    assert other.words.split()[-2:] == ["kvm.halt_poll_ns=0", "kvm_intel.ept=1"]
    assert "halt_poll" not in on.words
    assert other.boot.initrd == Path("/image-5.10+warningusr/bin/tcpline")
    assert (other.patience, on.patience) == (ON_BOCHS.patience, 1.0)
    assert other.identity != replace(other, carrier=ON_BOCHS.on_cpu("another")).identity


def test_bochs_is_built_before_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    monkeypatch.setattr(host_config, "bochs", lambda: built.append("bochs"))
    host_config.check_accel("bochs")
    host_config.check_accel("tcg")
    assert built == ["bochs"]


def test_the_accelerator_is_tried_with_a_host_of_the_guests_kernel(on: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(host_config, "carrier", {"tcg": TCG, "kvm": ON_INTEL}.__getitem__)
    monkeypatch.setattr(host_config, "resolve", lambda spec, own=True: kernel(spec))
    monkeypatch.setattr(host_config, "lab_keys", lambda: on.keys)
    monkeypatch.setattr(host_config.nesting, "check", lambda name, _, boot: tried.append(f"{name} {boot().words}"))
    host_config.check_accel("tcg")
    assert tried == []
    host_config.check_accel("kvm")
    assert [line.split()[0] for line in tried] == ["6.1-ept-kvm"]
    assert tried[0].endswith("kvm_intel.ept=1")


def test_the_paging_modes_are_those_of_the_hosts_kvm(on: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_config, "carrier", {"tcg": TCG, "kvm": ON_INTEL}.__getitem__)
    monkeypatch.setattr(host_config, "resolve", lambda spec, own=True: kernel(spec))
    monkeypatch.setattr(host_config, "lab_keys", lambda: on.keys)
    host_config.setup.cache_clear()
    assert host_config.setup("6.1", "shadow", "kvm").name == "6.1-shadow-kvm"
    assert host_config.setup("6.1", "npt", "kvm").paging == "ept"
    host_config.setup.cache_clear()


def test_only_a_cold_host_has_an_initramfs(on: Setup) -> None:
    assert on.boot.initrd == Path("/image-5.10+warning")
    assert on.restored.initrd is None
    assert replace(on.boot, initrd=None) == on.restored


def test_no_table_of_the_users_changes_the_guests_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_config, "resolve", lambda spec, own=True: kernel(f"{spec} {'any' if own else 'project'}"))
    monkeypatch.setattr(host_config, "lab_keys", lambda: None)
    made = host_config.setup.__wrapped__("6.1", "npt")
    assert isinstance(made, Setup)
    assert (made.kernel.label, made.guest_kernel.label) == ("6.1 any", "6.1 project")


@pytest.mark.parametrize(
    "other",
    [
        {"kernel": kernel("5.10+warning", "another")},
        {"paging": "shadow"},
        {"guest_kernel": kernel("6.1", "another")},
        {"carrier": TCG.on_cpu("another")},
        {"carrier": replace(TCG, saved_by="another machine")},
    ],
    ids=["kernel", "paging", "guest kernel", "CPU", "machine"],
)
def test_whatever_differs_makes_another_snapshot(on: Setup, other: dict[str, Any]) -> None:
    assert replace(on, **other).inputs != on.inputs
    assert replace(on, **other).identity != on.identity
    assert replace(on).inputs == on.inputs


def test_other_keys_make_another_snapshot(on: Setup) -> None:
    before = on.identity, on.inputs
    (on.keys.folder / "host_key").write_text("another")
    assert (replace(on).identity, replace(on).inputs) != before
    assert replace(on).identity != before[0] and replace(on).inputs != before[1]


def test_an_unknown_paging_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown paging mode 'ept'; there are npt and shadow"):
        host_config.setup("6.1", "ept")


def test_the_identity_of_qemu_is_its_bytes_and_its_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "qemu"
    program.write_text("7.2")
    monkeypatch.setattr(qemu_command, "qemu_for", lambda _: HostQemu("/any/where", program))

    def identity(cpu: str, accel: str = "tcg") -> str:
        qemu_identity.cache_clear()
        return qemu_identity(accel, cpu)

    first, other_cpu, other_accel = identity("EPYC"), identity("EPYC,svm=off"), identity("EPYC", "kvm")
    program.write_text("10.0")
    assert len({first, other_cpu, other_accel, identity("EPYC")}) == 4
    assert "/any/where" not in first
    qemu_identity.cache_clear()


def test_every_way_to_start_has_the_same_machine(on: Setup) -> None:
    devices = qemu_command.machine_words(7, on.carrier.accel, on.carrier.cpu, share=True)
    assert cold_words(7, on.boot)[: len(devices)] == restore_words(7, on.restored, share=True)[: len(devices)]
    assert restore_words(7, on.restored, share=False) != restore_words(7, on.restored, share=True)
