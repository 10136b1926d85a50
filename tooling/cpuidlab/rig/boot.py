"""What brings a rig from one stage to the next: the host boots, its guest is made, its guest boots."""

from cpuidlab.base.deadline import wait_for
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.kvm import kmsg
from cpuidlab.rig.console import UP, failed_boot
from cpuidlab.rig.guest_config import Layout, Profile
from cpuidlab.rig.readout import read_files
from cpuidlab.rig.rig import KMSG, TELL_SECONDS, GuestMark, Rig

BOOT_LOOK_SECONDS = 0.5  # between two looks at a booting guest's console: each starts a program on the emulated host


def boot_host(rig: Rig) -> None:
    """Wait until the host has booted and lets us in: stage HOST_READY."""
    rig.wait("the host to boot", lambda: UP["host"] in rig.machine.console() or None)
    check_tsc(rig)


def check_tsc(rig: Rig) -> None:
    """Raise LabError where the host's kernel does not trust its TSC.

    KVM then sets a vCPU's TSC back whenever the vCPU is loaded (kvm_arch_vcpu_load). On a busy machine the kernel may
    take a wrong rate for its TSC, and its watchdog finds that out.
    """
    count = rig.host.run(f"dmesg | grep -c '{kmsg.UNSTABLE_TSC}' || true", rig.deadline)
    if count.strip() != "0":
        raise LabError(f"{rig.setup.name}: the host's kernel marked its TSC unstable; run it on an idle machine", count)


def start_guest(rig: Rig, profile: Profile) -> None:
    """Start the guest's QEMU, whose vCPUs do not run yet: stage GUEST_HELD.

    Raises LostVMError, with what QEMU has printed, where QEMU ends at once.
    """
    rig.launch(profile)
    printed = rig.wait("the guest's QEMU", lambda: rig.host.run(_is_up(rig.layout), rig.deadline).strip() or None)
    if printed != "up":
        raise _ended_at_once(rig, printed)
    try:
        rig.qmp.execute("query-status", rig.deadline)
    except LostVMError as error:  # QEMU listens before it makes the machine, and may end then
        printed = rig.host.run(f"cat {rig.layout.stderr}", rig.deadline).strip()
        raise _ended_at_once(rig, printed or str(error)) from error


def _ended_at_once(rig: Rig, printed: str) -> LostVMError:
    last = printed.splitlines()[-1]
    return LostVMError(f"the guest's QEMU ended at once on {rig.setup.name}: {last}", printed)


def run_guest(rig: Rig) -> None:
    """Let the vCPUs run until SSH to the guest works: stage GUEST_READY."""
    rig.resume()
    patience = rig.deadline.before(TELL_SECONDS)
    try:
        wait_for(f"the guest to boot on {rig.setup.name}", lambda: _guest_is_up(rig), patience, rig.watch)
        rig.login(patience)
    except LabError as error:
        raise type(error)(str(error), f"{told_by(rig)}\n{error.evidence}") from error
    mark_guest(rig)


def mark_guest(rig: Rig) -> None:
    """Note where the guest's uptime and kernel log are now."""
    files = read_files(rig.guest, {"uptime": "/proc/uptime", "log": KMSG}, rig.deadline)
    rig.guest_mark = GuestMark(float(files["uptime"].split()[0]), kmsg.mark(kmsg.parse(files["log"])))


def _is_up(layout: Layout) -> str:
    """Return a command that prints "up" where QEMU listens, what QEMU has printed where it has ended, else nothing."""
    return f"[ -S {layout.qmp_socket} ] && echo up || [ ! -e {layout.exit} ] || cat {layout.stderr}"


def _guest_is_up(rig: Rig) -> bool | None:
    """Look whether the guest has booted, by its console. Raises LostVMError where it cannot boot."""
    console = read_files(rig.host, {"console": rig.layout.console}, rig.deadline)["console"]
    failure = failed_boot(rig.setup.name, "guest", console)
    if failure:
        raise failure
    if UP["guest"] in console:
        return True
    rig.deadline.pause(BOOT_LOOK_SECONDS)
    return None


def told_by(rig: Rig) -> str:
    """Return what logs, hook and QEMU tell of a guest that does not answer, for the evidence of a lab failure."""
    try:
        files = "\n".join(f"{name}:\n{text[-3000:]}" for name, text in rig.files().items())
    except LabError as error:
        return f"nothing more can be learned from the host: {error}"
    try:
        vcpus = rig.hook.list()
        registers = rig.qmp.execute("human-monitor-command", rig.deadline, command_line="info registers -a")
    except LabError as error:  # a QEMU that hangs does not take its logs with it
        return f"{files}\nhook or QEMU does not answer: {error}"
    return f"{files}\n{vcpus}\n{registers}"
