"""Name what runs nested hosts under an accelerator: QEMU, or Bochs."""

from cpuidlab.rig import host_qemu
from cpuidlab.rig.bochs import FETCHED_MB, Bochs, bochs
from cpuidlab.rig.carrier import BOCHS
from cpuidlab.rig.host_qemu import HostQemu, qemu_for


def emulator(accel: str) -> Bochs | HostQemu:
    """Return the emulator; it is fetched or built where it is not there."""
    return bochs() if accel == BOCHS else qemu_for(accel)


def fetched_mb(accel: str) -> int:
    """Return about how many MB are fetched where the emulator is not there."""
    return FETCHED_MB if accel == BOCHS else host_qemu.FETCHED_MB
