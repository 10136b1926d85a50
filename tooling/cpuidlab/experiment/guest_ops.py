"""What tests do to a guest beside setting its CPUID: reset it, take its CPUs away, give it others."""

from contextlib import suppress
from typing import Any

from cpuidlab.base.errors import LabError, LostVMError, UnknownCommandError, UnsupportedError
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.note import Note

BRING_UP_SECONDS = 5.0
ONLINE = "/sys/devices/system/cpu/cpu{}/online"


def system_reset(guest: Guest) -> None:
    """Reset the stopped VM as its reset button would; it boots again when it is let run."""
    _allow_reboots(guest)
    guest.rig.qmp.execute("system_reset", guest.deadline)
    _await_event(guest, "RESET")
    # the event comes before QEMU gives KVM the registers; its main loop answers only after that
    guest.rig.qmp.execute("query-status", guest.deadline)
    guest.let_boot()


def guest_reboot(guest: Guest) -> None:
    """Let the guest reboot itself, and stop it as soon as it has."""
    _allow_reboots(guest)
    guest.resume()
    guest.rig.guest.open_program("reboot -f", guest.deadline)
    _await_event(guest, "RESET")
    guest.stop()
    guest.let_boot()


def set_osxsave(guest: Guest) -> None:
    """Let the guest set CR4.OSXSAVE on every CPU, and take the models with it as those from before."""
    guest.resume()
    guest.rig.guest.run("insmod /lib/cpuidprobe.ko && echo osxsave >/proc/cpuidprobe", guest.deadline)
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


def bring_up(guest: Guest, cpu: int) -> None:
    """Let the guest bring up a CPU that ACPI is about to tell it of; the VM is left running.

    Whether the CPU works, and whether the guest survives it, is for the observation to say.
    """
    guest.resume()
    path = ONLINE.format(cpu)
    guest.rig.wait(
        f"the guest to see CPU {cpu}",
        lambda: guest.rig.guest.run(f"[ ! -e {path} ] || echo there", guest.deadline).strip() or None,
    )
    with suppress(LabError):
        guest.rig.guest.run(f"[ $(cat {path}) = 1 ] || echo 1 >{path}", guest.deadline.within(BRING_UP_SECONDS))


def hot_add(guest: Guest, **features: bool) -> int | None:
    """Plug a new vCPU with these features into the first free socket of the VM, and take it into the guest.

    Returns its vCPU id, or None where QEMU died of it.
    """
    free = [slot for slot in _slots(guest) if "qom-path" not in slot]
    return _plug(guest, free[-1], features)


def replug(guest: Guest, vcpu: int, **features: bool) -> int | None:
    """Unplug a vCPU with the guest's help, plug it in again with these features, and take it into the guest.

    Returns its vCPU id, or None where QEMU died of it. Raises LabError where the guest does not let it go.
    """
    slot = _slots(guest)[-1 - vcpu]  # QEMU lists the highest first
    guest.resume()
    guest.rig.qmp.execute("device_del", guest.deadline, id=slot["qom-path"])
    _await_event(guest, "DEVICE_DELETED")
    return _plug(guest, slot, features)


def _plug(guest: Guest, slot: dict[str, Any], features: dict[str, bool]) -> int | None:
    """With one thread a core and one socket the core's number is the APIC id, and that is the vCPU id."""
    words = {"driver": slot["type"], "id": "plugged", **slot["props"], "host-phys-bits": True, **features}
    vcpu = int(slot["props"]["core-id"])
    try:
        guest.rig.qmp.execute("device_add", guest.deadline, **words)
    except LostVMError:
        guest.rig.machine.watch()  # it is the guest's QEMU that died, not the host
        guest.take_answers_to_qemu()
        return None
    guest.adopt(vcpu)
    return vcpu


def _slots(guest: Guest) -> list[dict[str, Any]]:
    slots: list[dict[str, Any]] = guest.rig.qmp.execute("query-hotpluggable-cpus", guest.deadline)
    return slots


def _allow_reboots(guest: Guest) -> None:
    """QEMU was started with -no-reboot, so that an unwanted reset ends it. UnsupportedError before QEMU 6.0."""
    try:
        guest.rig.qmp.execute("set-action", guest.deadline, reboot="reset")
    except UnknownCommandError as error:
        raise UnsupportedError("the machine's QEMU cannot allow a guest to reboot; QEMU 6.0 and later can") from error


def _await_event(guest: Guest, name: str) -> None:
    def seen() -> bool | None:
        guest.rig.qmp.watch()
        return True if guest.rig.qmp.seen(name) else None

    try:
        guest.rig.wait(f"QEMU's event {name}", seen)
    except LostVMError:
        raise
    except LabError as error:
        raise LabError(str(error), guest.rig.qmp.tail()) from error
