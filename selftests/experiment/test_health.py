"""The guest's health: recorded output of guests/guest/health.c, read and judged."""

from dataclasses import replace

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.experiment import health
from cpuidlab.kvm.cpuid import Model
from cpuidlab.rig.rig import GuestMark
from models import EPYC

MODELS: tuple[Model, ...] = tuple(
    tuple(replace(entry, ebx=cpu << 24 | 0x020800) if entry.function == 1 else entry for entry in EPYC)
    for cpu in range(2)
)
KMSG = """\
5,0,0,-;Linux version 6.1.0-40-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC Debian 6.1.153-1
4,1,0,-;------------[ cut here ]------------
4,2,0,-;WARNING: CPU: 0 PID: 0 at arch/x86/kernel/fpu/xstate.c:982 fpu__init_system_xstate+0x64d/0x880
6,3,2204918,-;virtio_net virtio0 enp0s2: renamed from eth0
 SUBSYSTEM=virtio
 DEVICE=+virtio:virtio0
12,4,3900000,-;cpuidlab: guest is up
"""


def cpuid(models: tuple[Model, ...]) -> str:
    """The section of CPUID: blanks before each leaf, and each subleaf in two digits."""
    lines = []
    for number, model in enumerate(models):
        lines.append(f"CPU {number}:\n")
        lines += [
            f"   0x{e.function:08x} 0x{e.index:02x}: eax=0x{e.eax:08x} ebx=0x{e.ebx:08x} ecx=0x{e.ecx:08x} "
            f"edx=0x{e.edx:08x}\n"
            for e in model
        ]
    return "".join(lines)


def said(work: str = "1 0 \n0 0 \n", log: str = KMSG, after: str = "13.40", models: tuple[Model, ...] = MODELS) -> str:
    return f"== uptime\n11.87\n== work\n{work}== cpuid\n{cpuid(models)}== uptime\n{after}\n== kmsg\n{log}== end\n"


def troubles(text: str, since: float = 9.5, mark: int = 4, booted: bool = False) -> tuple[str, ...]:
    return health.troubles(health.parse(text), GuestMark(since, mark), MODELS, booted)


def test_a_recording_is_read() -> None:
    looked = health.parse(said())
    assert looked.uptimes == (11.87, 13.40)
    assert looked.work == {0: (0, ""), 1: (0, "")}
    assert sorted(looked.seen) == [0, 1]
    assert looked.seen[1][1, 0].ebx == 0x01020800
    assert [record.sequence for record in looked.log] == [0, 1, 2, 3, 4]


def test_a_sane_guest_has_no_troubles() -> None:
    assert troubles(said()) == ()


def test_what_the_kernel_says_at_every_boot_is_no_trouble_after_a_boot() -> None:
    assert troubles(said(), since=0.0, mark=-1, booted=True) == ()
    assert len(troubles(said(), since=0.0, mark=-1)) == 3
    other = KMSG + "4,5,4000000,-;WARNING: CPU: 1 PID: 9 at arch/x86/kvm/mmu.c:1 some_other_place+0x1/0x2\n"
    assert len(troubles(said(log=other), since=0.0, mark=-1, booted=True)) == 1


@pytest.mark.parametrize("end", ["", "== kmsg\n", "== work\n"])
def test_an_output_that_breaks_off_is_a_lab_error(end: str) -> None:
    text = said()
    with pytest.raises(LabError, match="did not come to its end") as caught:
        health.parse(text[: text.index("== kmsg")] + end)
    assert "== uptime" in caught.value.evidence


@pytest.mark.parametrize(
    "text",
    [
        said(after="cut: can't execute"),
        said(after=""),
        said(work="taskset: can't execute\n0 0 \n"),
        said(work="0 \n"),
    ],
)
def test_an_output_that_is_garbled_is_a_lab_error(text: str) -> None:
    with pytest.raises(LabError, match="the guest's health program"):
        health.parse(text)


def test_failed_work_names_the_vcpu() -> None:
    words = "stress-ng: fail: [212] cpu: int64 error detected, failed i64 checksum"
    assert troubles(said(work=f"0 0 \n1 2 {words}\n")) == (f"vCPU 1 failed its work (2): {words}",)


def test_failed_work_may_take_many_words_and_lines() -> None:
    work = "0 139 Segmentation fault\n1 2 stress-ng: fail: [212] one\nstress-ng: fail: [213] two\n"
    assert troubles(said(work=work)) == (
        "vCPU 0 failed its work (139): Segmentation fault",
        "vCPU 1 failed its work (2): stress-ng: fail: [212] one; stress-ng: fail: [213] two",
    )


@pytest.mark.parametrize(("since", "after"), [(11.87, "13.40"), (20.0, "13.40"), (9.5, "11.87"), (9.5, "3.10")])
def test_time_must_advance(since: float, after: str) -> None:
    (trouble,) = troubles(said(after=after), since=since)
    assert trouble.startswith("time does not advance")


@pytest.mark.parametrize(("work", "models"), [("0 0 \n", MODELS), ("0 0 \n1 0 \n", MODELS[:1])])
def test_a_vcpu_that_the_guest_lacks(work: str, models: tuple[Model, ...]) -> None:
    (trouble,) = troubles(said(work=work, models=models))
    assert "of 2 vCPUs" in trouble


def test_a_cpu_too_many() -> None:
    (trouble,) = troubles(said(work="0 0 \n1 0 \n2 0 \n", models=(*MODELS, MODELS[1])))
    assert trouble == "CPUs [0, 1, 2] work and [0, 1, 2] answer CPUID of 2 vCPUs"


def test_a_cpu_that_sees_another_model() -> None:
    other = tuple(replace(entry, eax=0x3024) if entry.function == 0x80000008 else entry for entry in MODELS[1])
    (trouble,) = troubles(said(models=(MODELS[0], other)))
    assert trouble.startswith("CPU 1 sees another CPUID than KVM reports: leaf 0x80000008 EAX")


def test_an_oops_after_the_mark() -> None:
    log = KMSG + "1,5,4100000,-;BUG: unable to handle page fault for address: ffff88813fe01000\n"
    (trouble,) = troubles(said(log=log))
    assert "unable to handle page fault" in trouble
    assert troubles(said(log=log), mark=5) == ()


@pytest.mark.parametrize(
    "line", ["kvm: enabling virtualization on CPU8 failed", "kvm_intel: Inconsistent VMCS config on CPU 8"]
)
def test_a_guest_whose_kvm_refuses_a_cpu_is_sick(line: str) -> None:
    assert troubles(said(log=f"{KMSG}3,5,4100000,-;{line}\n")) == (f"broken CPU: {line}",)
