"""A guest's state in a file on its host: QEMU saves it there and ends, and another QEMU loads it."""

import shlex
from contextlib import suppress
from dataclasses import replace

from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig.boot import start_guest
from cpuidlab.rig.guest_config import Profile
from cpuidlab.rig.rig import Rig

UNLIMITED = 10**12  # bytes a second


def save(rig: Rig, file: str) -> None:
    """Stop the guest and save its state. Raises LabError where QEMU cannot save it."""
    rig.stop()
    rig.qmp.execute("migrate-set-parameters", rig.deadline, max_bandwidth=UNLIMITED)
    rig.qmp.execute("migrate", rig.deadline, uri=f"exec:cat >{shlex.quote(file)}")
    rig.wait("the guest to be saved", lambda: _is_saved(rig))


def load(rig: Rig, profile: Profile, file: str) -> None:
    """Start a QEMU that loads the state; its vCPUs do not run yet.

    Raises LostVMError where QEMU ends at once, or of the state.
    """
    start_guest(rig, replace(profile, incoming=f"exec:cat {shlex.quote(file)}"))
    rig.wait("the saved guest", lambda: _is_loaded(rig))


def end_qemu(rig: Rig) -> None:
    """End the guest's QEMU, so that another can be started with the same files."""
    if not _has_ended(rig):
        with suppress(LostVMError):  # it may end before it answers
            rig.qmp.execute("quit", rig.deadline)
    rig.hang_up()
    rig.wait("the guest's QEMU to end", lambda: _has_ended(rig) or None)
    files = (rig.layout.exit, rig.layout.qmp_socket, rig.layout.hook_socket)
    rig.host.run(f"rm -f {shlex.join(files)}", rig.deadline)


def _has_ended(rig: Rig) -> bool:
    return bool(rig.host.run(f"[ -e {rig.layout.exit} ] && echo yes", rig.deadline, check=False))


def _is_saved(rig: Rig) -> bool | None:
    about = rig.qmp.execute("query-migrate", rig.deadline)
    if about.get("status") == "failed":
        raise LabError(f"the guest cannot be saved: {about.get('error-desc', 'QEMU does not say why')}")
    return about.get("status") == "completed" or None


def _is_loaded(rig: Rig) -> bool | None:
    """Tell whether the state is loaded; newer versions of QEMU say so where KVM has refused the registers."""
    status = rig.qmp.execute("query-status", rig.deadline)["status"]
    return status in ("paused", "internal-error") or None
