"""The evidence folder: all of it, whatever a test has come to."""

from cpuidlab.experiment import evidence
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.observe import Look
from cpuidlab.kvm.warning import WARNING_LINES
from fakerig import FakeRig, guest_on

NAMES = {
    "host-log.txt",
    "guest-log.txt",
    "guest-console.txt",
    "qemu-stderr.txt",
    "readings.txt",
    "hook-log.txt",
    "qmp.txt",
    "models-before.txt",
    "models-after.txt",
    "models-diff.txt",
    "vcpu-state-diff.txt",
}
STATES = {"vcpu-state-before.txt", "vcpu-state-after.txt"}  # fmt: skip


def observed(rig: FakeRig) -> tuple[Guest, Look]:
    guest = guest_on(rig)
    look = Look(guest)
    guest.set_cpuid("maxphyaddr=36", vcpus=[1])
    guest.write_down("one", "two")
    look.observe()
    return guest, look


def test_all_that_was_seen_is_kept() -> None:
    rig = FakeRig()
    rig.hook.lines = WARNING_LINES[:1]
    rig.guest_log.append("6,101,9000000,-;after the mark")
    files = evidence.files(*observed(rig))
    assert set(files) == NAMES | STATES
    assert files["host-log.txt"] == f"<4> [0.000001] {WARNING_LINES[0]}\n"
    assert files["guest-log.txt"] == "<6> [9.000000] after the mark\n"
    assert (files["guest-console.txt"], files["qemu-stderr.txt"]) == ("LAB: guest up\n", "")
    assert (files["readings.txt"], files["qmp.txt"]) == ("one\ntwo\n", "-> {}\n<- {}\n")
    assert files["hook-log.txt"].count("set_cpuid2") == 1
    assert files["models-before.txt"].startswith("vCPU 0\n0x40000001")
    changed = "vCPU 1: leaf 0x80000008 EAX: 0x00003028 -> 0x00003024 (maxphyaddr 40 -> 36)\n"
    assert files["models-diff.txt"] == f"vCPU 0: unchanged\n{changed}"
    assert "eax=0x00003024" in files["models-after.txt"]
    assert files["vcpu-state-diff.txt"] == "vCPU 1, KVM_SET_CPUID2, maxphyaddr=36: accepted\n"
    assert files["vcpu-state-before.txt"] == "vCPU 1\nthe state of vCPU 1 before set 1\n"


def test_before_the_first_look_there_is_evidence_too() -> None:
    guest = guest_on(FakeRig())
    files = evidence.files(guest, Look(guest))
    assert set(files) == NAMES
    assert files["models-after.txt"] == files["models-diff.txt"] == files["guest-log.txt"] == ""


def test_a_host_log_that_cannot_be_read_is_kept_raw() -> None:
    rig = FakeRig()
    guest, look = observed(rig)
    files = rig.files
    rig.files = lambda: {**files(), "host-log": "garbage\n"}  # type: ignore[method-assign]
    guest.logs.read()
    assert evidence.files(guest, look)["host-log.txt"] == "garbage\n"
