import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.kvm import kmsg
from cpuidlab.kvm.warning import WARNING_LEVEL, WARNING_LINES
from hypothesis import given
from hypothesis import strategies as st

HOST = r"""5,0,0,-;Linux version 5.10.0-36-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-10 (Debian 10.2.1-6) 10.2.1 20210110, GNU ld (GNU Binutils for Debian) 2.35.2) #1 SMP Debian 5.10.244-1 (2025-09-29)
6,1,0,-;Command line: console=ttyS0 quiet panic=-1
6,411,1843711,-;virtio_net virtio0 enp0s2: renamed from eth0
 SUBSYSTEM=virtio
 DEVICE=+virtio:virtio0
6,412,2204918,-,caller=T87;kvm: Nested Virtualization enabled
6,413,2204931,-,caller=T87;SVM: kvm: Nested Paging enabled
12,414,9000000,-;cpuidlab: guest is up
4,415,16120711,-;KVM: KVM_SET_CPUID{,2} after KVM_RUN may cause guest instability
4,416,16120719,-;KVM: KVM_SET_CPUID{,2} will fail after KVM_RUN starting with Linux 5.16
4,417,21731022,-;kvm_mmu_after_set_cpuid: 6 callbacks suppressed
"""  # noqa: E501

OOPS = r"""6,880,31200410,-;smpboot: CPU 1 is now offline
1,881,31992811,-;BUG: unable to handle page fault for address: ffff88813fe01000
1,882,31992830,-;#PF: supervisor read access in kernel mode
1,883,31992835,-;#PF: error_code(0x0009) - reserved bit violation
6,884,31992840,-;PGD 2c01067 P4D 2c01067 PUD 13ffff067 PMD 13fdfe067 PTE 800ffffec01fe062
4,885,31992851,-;Oops: 0009 [#1] PREEMPT SMP NOPTI
4,886,31992860,-;CPU: 0 PID: 611 Comm: stress-ng-cpu Not tainted 6.1.0-50-cloud-amd64 #1  Debian 6.1.176-1
0,887,31993999,-;Kernel panic - not syncing: Fatal exception
"""


def test_a_recorded_host_log() -> None:
    records = kmsg.parse(HOST)
    assert len(records) == 9
    assert records[6] == kmsg.Record(4, 0, 415, 16.120711, WARNING_LINES[0])
    assert records[5].facility == 1
    assert kmsg.mark(records) == 417
    assert kmsg.mark(()) == -1


def test_since_a_mark_only_the_kernel_counts() -> None:
    records = kmsg.parse(HOST)
    assert [record.sequence for record in kmsg.since(records, 413)] == [415, 416, 417]
    assert kmsg.since(records, 417) == ()


def test_a_gap_before_the_mark_does_not_matter() -> None:
    assert len(kmsg.since(kmsg.parse(HOST), 410)) == 6


@pytest.mark.parametrize("mark", [1, 409, -1])
def test_a_gap_after_the_mark_is_a_lab_error(mark: int) -> None:
    with pytest.raises(LabError, match="silence cannot be claimed"):
        kmsg.since(kmsg.parse(HOST), mark)


@pytest.mark.parametrize("log", ["", HOST])
def test_a_log_that_ends_before_its_mark_is_a_lab_error(log: str) -> None:
    with pytest.raises(LabError, match="ends before its mark 5000"):
        kmsg.since(kmsg.parse(log), 5000)


def test_an_empty_log_has_an_empty_end() -> None:
    assert kmsg.since((), -1) == ()


def test_matching_is_exact_in_text_and_level() -> None:
    records = kmsg.parse(HOST)
    assert len(kmsg.matching(records, WARNING_LINES[0], WARNING_LEVEL)) == 1
    assert kmsg.matching(records, WARNING_LINES[0] + " ", WARNING_LEVEL) == ()
    assert kmsg.matching(records, WARNING_LINES[0][:-1], WARNING_LEVEL) == ()
    assert kmsg.matching(records, WARNING_LINES[0], 3) == ()


def test_suppression_note() -> None:
    assert [kmsg.is_suppression_note(record) for record in kmsg.parse(HOST)][-2:] == [False, True]


@pytest.mark.parametrize("line", ["no record", "4,1;text", "4,x,1,-;text", "[    1.0] kvm: text"])
def test_a_garbled_line_is_a_lab_error(line: str) -> None:
    with pytest.raises(LabError, match="this is no record"):
        kmsg.parse(HOST + line + "\n")


def test_escaped_bytes() -> None:
    record = kmsg.parse(r"6,1,2,-;tab\x09 back\x5cslash \xc3\xa9 \xff; and, more")[0]
    assert record.text == "tab\t back\\slash é \ufffd; and, more"


@given(st.text(alphabet=st.characters(min_codepoint=1, max_codepoint=0x2FFF)))
def test_whatever_the_kernel_escapes_comes_back(text: str) -> None:
    raw = "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in text.encode())
    assert kmsg.parse(f"30,7,1500000,-;{raw}\n") == (kmsg.Record(6, 3, 7, 1.5, text),)


def test_a_healthy_log_has_no_troubles() -> None:
    assert kmsg.troubles(kmsg.since(kmsg.parse(HOST), 410)) == ()
    quiet = "smpboot: Booting Node 0 Processor 1 APIC 0x1", "debug: no bug here", "kvm-clock: cpu 1, msr 3fc01041"
    assert kmsg.troubles(kmsg.Record(6, 0, 1, 1.0, text) for text in quiet) == ()


def test_a_recorded_oops() -> None:
    assert [line.partition(":")[0] for line in kmsg.troubles(kmsg.parse(OOPS))] == ["oops", "oops", "panic"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b", "panic"),
        ("Linux version 6.1.0-50-cloud-amd64 (debian-kernel@lists.debian.org)", "restart"),
        ("watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [stress-ng-cpu:611]", "lockup"),
        ("NMI watchdog: Watchdog detected hard LOCKUP on cpu 0", "lockup"),
        ("BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 33s!", "lockup"),
        ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "stall"),
        ("rcu: INFO: rcu_sched self-detected stall on CPU", "stall"),
        ("rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-... } 21 jiffies s: 93", "stall"),
        ("rcu: rcu_preempt kthread starved for 5250 jiffies! g1 f0x0 RCU_GP_WAIT_FQS(5)", "stall"),
        ("INFO: task dropbear:201 blocked for more than 120 seconds.", "hung task"),
        ("general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP NOPTI", "oops"),
        ("Oops: general protection fault, maybe for address 0x0: 0000 [#2] SMP", "oops"),
        ("invalid opcode: 0000 [#1] SMP", "oops"),
        ("BUG: Bad page map in process stress-ng-vm  pte:800000013fe01067 pmd:2c01067", "BUG"),
        ("kernel BUG at mm/slub.c:305!", "BUG"),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000000", "BUG"),
        ("WARNING: CPU: 1 PID: 33 at arch/x86/kernel/fpu/xstate.c:878 get_xsave_addr+0x83/0x90", "WARNING"),
        ("WARNING: arch/x86/kernel/fpu/xstate.c:878 at get_xsave_addr+0x83/0x90, CPU#1: stress-ng/33", "WARNING"),
        ("------------[ cut here ]------------", "WARNING"),
        ("unchecked MSR access error: RDMSR from 0x10a at rIP: 0xffffffff81070a24", "WARNING"),
        ("kvm: enabling virtualization on CPU8 failed", "broken CPU"),
        ("kvm_intel: Inconsistent VMCS config on CPU 8", "broken CPU"),
        ("kvm: CPU 8 feature inconsistency!", "broken CPU"),
        ("mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 5: be00000000800400", "hardware error"),
        ("stress-ng-cpu[611]: segfault at 7f2a3c001000 ip 000055d0c0de4f20 sp 00007ffd error 4", "crashed program"),
        ("traps: stress-ng-cpu[611] trap invalid opcode ip:55d0c0de4f20 sp:7ffd error:0", "crashed program"),
        ("I/O error, dev vda, sector 2048 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2", "I/O error"),
        ("ata1: soft reset failed (device not ready)", "soft reset"),
        ("Out of memory: Killed process 611 (stress-ng-vm) total-vm:262144kB", "out of memory"),
    ],
)
def test_troubles_are_named(text: str, kind: str) -> None:
    assert kmsg.troubles([kmsg.Record(4, 0, 1, 1.0, text)]) == (f"{kind}: {text}",)


NOTE = "kvm_mmu_after_set_cpuid: 190 callbacks suppressed"


@pytest.mark.parametrize(
    ("logged", "kept"),
    [
        ([NOTE, "first", NOTE, "second"], ["first", "second"]),  # two lines of one function, each with its own limit
        (["first", "first", NOTE, "first"], ["first", "first", NOTE, "first"]),
        (["first", NOTE, "second", NOTE, "first"], ["first", "second", NOTE, "first"]),
        (["first", NOTE], ["first", NOTE]),
        ([], []),
    ],
)
def test_a_note_of_what_was_suppressed_before_is_left_out(logged: list[str], kept: list[str]) -> None:
    records = [kmsg.Record(4, 0, number, 1.0, text) for number, text in enumerate(logged)]
    assert [record.text for record in kmsg.without_earlier_notes(records)] == kept
