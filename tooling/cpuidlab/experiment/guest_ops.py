"""What tests do to a guest beside setting its CPUID: reset it, let it set registers, send it NMI and INIT."""

from cpuidlab.base.errors import LabError, LostVMError, UnknownCommandError, UnsupportedError
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.note import Note

ONLINE = "/sys/devices/system/cpu/cpu{}/online"


def system_reset(guest: Guest) -> None:
    """Reset the stopped VM as its reset button would; it boots again when it is let run."""
    _allow_reboots(guest)
    guest.rig.qmp.execute("system_reset", guest.deadline)
    await_event(guest, "RESET")
    # the event comes before QEMU gives KVM the registers; its main loop answers only after that
    guest.rig.qmp.execute("query-status", guest.deadline)
    guest.let_boot()


def guest_reboot(guest: Guest) -> None:
    """Let the guest reboot itself, and stop it as soon as it has."""
    _allow_reboots(guest)
    guest.resume()
    guest.rig.guest.open_program("reboot -f", guest.deadline)
    await_event(guest, "RESET")
    guest.stop()
    guest.let_boot()


def set_osxsave(guest: Guest, cpu: int | None = None) -> None:
    """Let the guest set CR4.OSXSAVE on every CPU, or on one, and take the models with it as those from before."""
    guest.resume()
    words = "osxsave" if cpu is None else f"osxsave {cpu}"
    guest.rig.guest.run(f"insmod /lib/cpuidprobe.ko && echo {words} >/proc/cpuidprobe", guest.deadline)
    guest.stop()
    guest.begin_from_here()


def set_breakpoint(guest: Guest) -> None:
    """Let the guest put the address of a breakpoint into DR0 of every CPU. It is not enabled: QEMU's TCG does not
    survive an enabled one in a guest of KVM's."""
    guest.resume()
    guest.rig.guest.run("insmod /lib/cpuidprobe.ko && echo breakpoint >/proc/cpuidprobe", guest.deadline)
    guest.stop()


def send_nmi(guest: Guest) -> None:
    """Send an NMI to the stopped VM. It stays pending, on the vCPUs that take NMIs at LINT1, until the VM runs."""
    guest.rig.qmp.execute("inject-nmi", guest.deadline)


def note_osxsave(guest: Guest) -> None:
    """Note whether KVM still reports OSXSAVE after a reset. A guest does not survive a boot with it, and is left
    stopped then (docs/findings.md); the VM must be stopped."""
    if guest.reports("osxsave"):
        guest.note(Note.OSXSAVE_STALE)
        guest.leave_stopped()
    else:
        guest.note(Note.OSXSAVE_CLEARED)


def send_init(guest: Guest, cpu: int) -> None:
    """Let the guest take one CPU offline and send it INIT, so that it waits for SIPI; the VM is running in between."""
    guest.resume()
    offline = f"echo 0 >{ONLINE.format(cpu)}"
    guest.rig.guest.run(f"insmod /lib/cpuidprobe.ko && {offline} && echo init {cpu} >/proc/cpuidprobe", guest.deadline)
    guest.stop()


def put_online(guest: Guest, cpu: int) -> None:
    """Let the guest bring a CPU up again, by INIT and SIPI; the VM is running in between."""
    guest.resume()
    guest.rig.guest.run(f"echo 1 >{ONLINE.format(cpu)}", guest.deadline)
    guest.stop()


def run_first_vcpu_only(guest: Guest) -> None:
    """Let held vCPUs run until the first one has, and stop them before the firmware has woken the others.

    SeaBIOS wakes every CPU once, long before a kernel does. Raises LabError where it was quicker than we are.
    """
    guest.let_boot()
    guest.resume()
    guest.rig.wait("vCPU 0 to run", lambda: guest.rig.hook.list()[0].has_run or None)
    guest.stop()
    if any(vcpu.has_run for vcpu in guest.rig.hook.list()[1:]):
        raise LabError("the firmware has woken the other vCPUs before the VM could be stopped; run it again")


def _allow_reboots(guest: Guest) -> None:
    """QEMU was started with -no-reboot, so that an unwanted reset ends it. UnsupportedError before QEMU 6.0."""
    try:
        guest.rig.qmp.execute("set-action", guest.deadline, reboot="reset")
    except UnknownCommandError as error:
        raise UnsupportedError("the machine's QEMU cannot allow a guest to reboot; QEMU 6.0 and later can") from error


def await_event(guest: Guest, name: str, earlier: int = 0) -> None:
    """Wait for an event of QEMU's; those that were among its first `earlier` events do not count."""

    def seen() -> bool | None:
        guest.rig.qmp.watch()
        return True if any(event["event"] == name for event in guest.rig.qmp.events[earlier:]) else None

    try:
        guest.rig.wait(f"QEMU's event {name}", seen)
    except LostVMError:
        raise
    except LabError as error:
        raise LabError(str(error), guest.rig.qmp.tail()) from error
