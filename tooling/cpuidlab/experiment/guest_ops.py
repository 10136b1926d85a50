"""What tests do to a guest beside setting its CPUID: reset it, take its CPUs away, give it others."""

from contextlib import suppress
from typing import Any

from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.experiment.experiment import Story

BRING_UP_SECONDS = 5.0
ONLINE = "/sys/devices/system/cpu/cpu{}/online"


def system_reset(story: Story) -> None:
    """Reset the stopped VM as its reset button would; it boots again when it is let run."""
    _allow_reboots(story)
    story.rig.qmp.execute("system_reset", story.deadline)
    _await_event(story, "RESET")
    # the event comes before QEMU gives KVM the registers; its main loop answers only after that
    story.rig.qmp.execute("query-status", story.deadline)
    story.boots()


def guest_reboot(story: Story) -> None:
    """Let the guest reboot itself, and stop it as soon as it has."""
    _allow_reboots(story)
    story.resume()
    story.rig.guest.open_program("reboot -f", story.deadline)
    _await_event(story, "RESET")
    story.stop()
    story.boots()


def set_osxsave(story: Story) -> None:
    """Let the guest set CR4.OSXSAVE on every CPU, and take the models with it as those from before."""
    story.resume()
    story.rig.guest.run("insmod /lib/cpuidprobe.ko && echo osxsave >/proc/cpuidprobe", story.deadline)
    story.stop()
    story.look_again()


def send_init(story: Story, cpu: int) -> None:
    """Let the guest take one CPU offline and send it INIT, so that it waits for SIPI; the VM is running in between."""
    story.resume()
    offline = f"echo 0 >{ONLINE.format(cpu)}"
    story.rig.guest.run(f"insmod /lib/cpuidprobe.ko && {offline} && echo init {cpu} >/proc/cpuidprobe", story.deadline)
    story.stop()


def put_online(story: Story, cpu: int) -> None:
    """Let the guest bring a CPU up again, by INIT and SIPI; the VM is running in between."""
    story.resume()
    story.rig.guest.run(f"echo 1 >{ONLINE.format(cpu)}", story.deadline)
    story.stop()


def run_first_vcpu_only(story: Story) -> None:
    """Let held vCPUs run until the first one has, and stop them before the firmware has woken the others.

    SeaBIOS wakes every CPU once, long before a kernel does. Raises LabError where it was quicker than we are.
    """
    story.resume()
    story.rig.wait("vCPU 0 to run", lambda: story.rig.hook.list()[0].has_run or None)
    story.stop()
    if any(vcpu.has_run for vcpu in story.rig.hook.list()[1:]):
        raise LabError("the firmware has woken the other vCPUs before the VM could be stopped; run it again")
    story.boots()


def bring_up(story: Story, cpu: int) -> None:
    """Let the guest bring up a CPU that ACPI is about to tell it of; the VM is left running.

    Whether the CPU works, and whether the guest survives it, is for the observation to say.
    """
    story.resume()
    path = ONLINE.format(cpu)
    story.rig.wait(
        f"the guest to see CPU {cpu}",
        lambda: story.rig.guest.run(f"[ ! -e {path} ] || echo there", story.deadline).strip() or None,
    )
    with suppress(LabError):
        story.rig.guest.run(f"[ $(cat {path}) = 1 ] || echo 1 >{path}", story.deadline.within(BRING_UP_SECONDS))


def hot_add(story: Story, **features: bool) -> int | None:
    """Plug a new vCPU with these features into the first free socket of the VM, and take it into the story.

    Returns its vCPU id, or None where QEMU died of it.
    """
    free = [slot for slot in _slots(story) if "qom-path" not in slot]
    return _plug(story, free[-1], features)


def replug(story: Story, vcpu: int, **features: bool) -> int | None:
    """Unplug a vCPU with the guest's help, plug it in again with these features, and take it into the story.

    Returns its vCPU id, or None where QEMU died of it. Raises LabError where the guest does not let it go.
    """
    slot = _slots(story)[-1 - vcpu]  # QEMU lists the highest first
    story.resume()
    story.rig.qmp.execute("device_del", story.deadline, id=slot["qom-path"])
    _await_event(story, "DEVICE_DELETED")
    return _plug(story, slot, features)


def _plug(story: Story, slot: dict[str, Any], features: dict[str, bool]) -> int | None:
    """With one thread a core and one socket the core's number is the APIC id, and that is the vCPU id."""
    words = {"driver": slot["type"], "id": "plugged", **slot["props"], "host-phys-bits": True, **features}
    vcpu = int(slot["props"]["core-id"])
    try:
        story.rig.qmp.execute("device_add", story.deadline, **words)
    except LostVMError:
        story.rig.machine.watch()  # it is the guest's QEMU that died, not the host
        story.qemu_set()
        return None
    story.adopt(vcpu)
    return vcpu


def _slots(story: Story) -> list[dict[str, Any]]:
    slots: list[dict[str, Any]] = story.rig.qmp.execute("query-hotpluggable-cpus", story.deadline)
    return slots


def _allow_reboots(story: Story) -> None:
    """QEMU was started with -no-reboot, so that an unwanted reset ends it."""
    story.rig.qmp.execute("set-action", story.deadline, reboot="reset")


def _await_event(story: Story, name: str) -> None:
    def seen() -> bool | None:
        story.rig.qmp.watch()
        return True if story.rig.qmp.seen(name) else None

    try:
        story.rig.wait(f"QEMU's event {name}", seen)
    except LostVMError:
        raise
    except LabError as error:
        raise LabError(str(error), story.rig.qmp.tail()) from error
