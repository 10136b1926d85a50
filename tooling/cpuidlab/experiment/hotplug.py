"""What tests do to a guest's CPUs by hotplug: plug one in, take one out, and bring it up. QEMU makes all the calls."""

from contextlib import suppress
from typing import Any

from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.guest_ops import ONLINE, await_event

BRING_UP_SECONDS = 5.0


def bring_up(guest: Guest, cpu: int) -> None:
    """Let the guest bring up a CPU that ACPI is about to tell it of; the VM is left running.

    Whether the CPU works, and whether the guest survives it, is for the observation to say.
    """
    path = _await_cpu(guest, cpu)
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
    return _plug(guest, _unplug(guest, vcpu), features)


def replug_offline(guest: Guest, vcpu: int) -> bool:
    """Unplug a vCPU with the guest's help and plug it in again. The guest sees it and does not bring it up.

    QEMU has reset its registers then, and nobody has read its CPUID since. Returns whether QEMU lives. Raises LabError
    where the guest does not let it go.
    """
    if not _add(guest, _unplug(guest, vcpu), {}):
        return False
    _await_cpu(guest, vcpu)
    guest.stop()
    guest.take_answers_to_qemu()
    guest.restarted.add(vcpu)
    return True


def _await_cpu(guest: Guest, cpu: int) -> str:
    """Let the guest run until it sees a CPU; return the file by which the CPU is brought up."""
    path = ONLINE.format(cpu)
    guest.resume()
    guest.rig.wait(
        f"the guest to see CPU {cpu}",
        lambda: guest.rig.guest.run(f"[ ! -e {path} ] || echo there", guest.deadline).strip() or None,
    )
    return path


def _unplug(guest: Guest, vcpu: int) -> dict[str, Any]:
    """Let the VM run until a vCPU is unplugged; return its slot."""
    slot = _slots(guest)[-1 - vcpu]  # QEMU lists the highest first
    earlier = len(guest.rig.qmp.events)
    guest.resume()
    guest.rig.qmp.execute("device_del", guest.deadline, id=slot["qom-path"])
    await_event(guest, "DEVICE_DELETED", earlier)
    return slot


def _plug(guest: Guest, slot: dict[str, Any], features: dict[str, bool]) -> int | None:
    if not _add(guest, slot, features):
        return None
    vcpu = _number(slot)
    guest.adopt(vcpu)
    return vcpu


def _add(guest: Guest, slot: dict[str, Any], features: dict[str, bool]) -> bool:
    """Plug a vCPU into a slot. Where QEMU dies of it keep what it was answered, and return False."""
    words = {"driver": slot["type"], "id": "plugged", **slot["props"], "host-phys-bits": True, **features}
    try:
        guest.rig.qmp.execute("device_add", guest.deadline, **words)
    except LostVMError:
        guest.rig.machine.watch()  # it is the guest's QEMU that died, not the host
        guest.take_answers_to_qemu()
        return False
    return True


def _number(slot: dict[str, Any]) -> int:
    """The vCPU id of a slot. With one thread a core and one socket the core's number is the APIC id, and that is it."""
    return int(slot["props"]["core-id"])


def _slots(guest: Guest) -> list[dict[str, Any]]:
    slots: list[dict[str, Any]] = guest.rig.qmp.execute("query-hotpluggable-cpus", guest.deadline)
    return slots
