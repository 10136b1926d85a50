"""Whether this machine's KVM nests. A trial tells it: a host boots under KVM and loads a KVM of its own."""

from collections.abc import Callable
from pathlib import Path

from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import made
from cpuidlab.base.deadline import Deadline, wait_for
from cpuidlab.base.errors import LabError, LostVMError, UnsupportedError
from cpuidlab.rig.console import UP
from cpuidlab.rig.host_machine import Boot
from cpuidlab.rig.host_vm import QemuMachine

NESTINGS = Kind("nesting", cost=5)
SECONDS = 120.0  # on hardware about two
DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def check(name: str, identity: str, boot: Callable[[], Boot]) -> None:
    """Raise UnsupportedError, in one line with the reason, where this machine's KVM does not nest.

    Raises LabError where the trial does not end in time: it may nest all the same. `boot` makes what the host boots,
    and `identity` changes with it. That it nests is kept in the cache until the machine boots again or its KVM is
    loaded anew.
    """
    inputs = {"host": identity, "boot": BOOT_ID.read_text().strip(), "device": str(DEVICE.stat().st_ino)}
    made(NESTINGS, name, inputs, lambda _: _try(name, boot()))


def _try(name: str, boot: Boot) -> None:
    """Boot a host until its KVM is loaded."""
    deadline = Deadline.after(SECONDS)
    try:
        machine = QemuMachine.start(f"host {name}", boot, deadline)
        try:
            wait_for("the host to boot", lambda: UP["host"] in machine.console() or None, deadline, machine.watch)
        finally:
            machine.stop()
    except LostVMError as error:
        raise UnsupportedError(f"--accel kvm: no host with KVM runs on this machine's KVM: {error}") from error
    except LabError as error:
        unknown = "--accel kvm: a trial was to tell whether this machine's KVM nests, and has failed; run the job again"
        raise LabError(f"{unknown}: {error}", error.evidence) from error
