"""The lines of an ordinary host that break no silence: each row knows its example, and what is near it breaks it."""

import pytest
from cpuidlab.judge.host_lines import host_lines, is_unrelated
from cpuidlab.kvm.warning import WARNING_LINES


def test_each_row_fits_its_example_and_no_other_row_does() -> None:
    for line in host_lines():
        fitting = [row.pattern.pattern for row in host_lines() if row.pattern.match(line.example)]
        assert fitting == [line.pattern.pattern]
        assert line.why


@pytest.mark.parametrize(
    "text",
    [
        "kvm [811]: vcpu1, guest rIP: 0xffffffff8106f1a4 disabled perfctr wrmsr: 0xc0010007 data 0xffff",
        "kvm: kvm [811]: vcpu1, guest rIP: 0xffffffff8106f1a4 disabled perfctr wrmsr: 0xc0010007 data 0xffff",
        "L1TF CPU bug present and SMT on, data leak possible. See CVE-2018-3646",
        "x86/split lock detection: #AC: CPU 1/KVM/811 took a bus_lock trap at address: 0x7ffff7fd1234",
        "kvm_msr_ignored_check: 3 callbacks suppressed",
        "kauditd_printk_skb: 2 callbacks suppressed",
        "device vnet3 entered promiscuous mode",
        "tap0: entered promiscuous mode",
        "virbr0: port 4(vnet3) entered blocking state",
        "ata2.00: exception Emask 0x0 SAct 0x0 SErr 0x0 action 0x6 frozen",
    ],
)
def test_an_ordinary_host(text: str) -> None:
    assert is_unrelated(text)


@pytest.mark.parametrize(
    "text",
    [
        *WARNING_LINES,
        "kvm_set_cpuid: 3 callbacks suppressed",
        "kvm_mmu_after_set_cpuid: 20 callbacks suppressed",
        "kvm [811]: vcpu1, guest rIP: 0xffffffff8106f1a4 disabled perfctr wrmsr: 0xc0010004 data 0xffff",
        "kvm [611]: vcpu0, guest rIP: 0xffffffff81070a24 unhandled rdmsr: 0x10a",
        "WARNING: CPU: 0 PID: 114 at arch/x86/kvm/cpuid.c:1 some_place+0x1/0x2",
        "kvm: SMP vm created",
        "TCP: request_sock_TCP: Possible SYN flooding on port 22",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 22s!",
        "my usb 1-2: device descriptor read/64, error -71",
    ],
)
def test_what_may_be_about_cpuid(text: str) -> None:
    assert not is_unrelated(text)
