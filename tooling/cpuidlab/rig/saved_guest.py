"""A fresh guest on a real machine for each test: booted, or restored from a guest that the job has saved there.

The first test of a job that needs a guest boots it, saves it and restores it. Both ways are timed, and the quicker one
serves all other tests of the job.
"""

import json
import shlex
import time
from dataclasses import asdict, dataclass

from cpuidlab.base.artifacts import key_of
from cpuidlab.base.errors import LabError
from cpuidlab.rig import guest_state
from cpuidlab.rig.boot import mark_guest, run_guest, start_guest
from cpuidlab.rig.guest_config import Profile
from cpuidlab.rig.rig import GuestStart, Rig

# The CPUID instruction on each vCPU: each has then entered the guest in this QEMU, as after a boot, and KVM has no
# update of its own CPUID bits pending, which setting the registers has left (93da6af3ae56).
RUN_EACH_VCPU = "cpuid -r -l 0 >/dev/null"


@dataclass(frozen=True)
class Known:
    """What a job knows of a guest: how many seconds its boot and its restore took, or why it cannot be restored."""

    boot: float
    restore: float = 0.0
    trouble: str = ""

    @property
    def start(self) -> GuestStart:
        """The quicker way to a fresh guest."""
        return GuestStart.BOOTED if self.trouble or self.restore >= self.boot else GuestStart.RESTORED


class SavedGuest:
    """One guest in the job's folder: of one machine, paging mode and profile, the CPU model among it."""

    def __init__(self, rig: Rig, profile: Profile, job_folder: str, paging: str) -> None:
        """`rig` is at HOST_READY."""
        self._rig = rig
        self._profile = profile
        name = key_of({"profile": repr(profile), "paging": paging})
        self._state = f"{job_folder}/guest-{name}"
        self._about = f"{self._state}.json"

    def make_ready(self) -> Known:
        """Bring the rig to GUEST_READY, and return what is known of its guest."""
        text = self._run(f"cat {shlex.quote(self._about)} 2>/dev/null", check=False)
        known = Known(**json.loads(text)) if text else None
        if known is None:
            known = self._boot_and_save()
            self._note(known)
        elif known.start is GuestStart.BOOTED:
            self._boot()
        else:
            self._restore()
        return known

    def _run(self, command: str, check: bool = True) -> str:
        return self._rig.host.run(command, self._rig.deadline, check=check)

    def _note(self, known: Known) -> None:
        words = shlex.quote(json.dumps(asdict(known)))
        self._run(f"umask 077; echo {words} >{shlex.quote(self._about)}")

    def _boot_and_save(self) -> Known:
        boot = self._boot()
        try:
            guest_state.save(self._rig, self._state)
            guest_state.end_qemu(self._rig)
        except LabError as error:
            return self._do_without(boot, str(error))
        try:
            restore = self._restore()
        except LabError as error:
            return self._do_without(boot, str(error))
        return Known(boot, restore)

    def _do_without(self, boot: float, trouble: str) -> Known:
        """Boot anew where the guest could not be saved or restored."""
        self._run(f"rm -f {shlex.quote(self._state)}")
        guest_state.end_qemu(self._rig)
        self._boot()
        return Known(boot, trouble=trouble)

    def _boot(self) -> float:
        began = time.monotonic()
        start_guest(self._rig, self._profile)
        run_guest(self._rig)
        self._rig.guest_start = GuestStart.BOOTED
        return time.monotonic() - began

    def _restore(self) -> float:
        rig = self._rig
        began = time.monotonic()
        guest_state.load(rig, self._profile, self._state)
        rig.resume()
        rig.login(rig.deadline).run(RUN_EACH_VCPU, rig.deadline)
        mark_guest(rig)
        rig.guest_start = GuestStart.RESTORED
        return time.monotonic() - began
