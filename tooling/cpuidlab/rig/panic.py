"""Does the console of a running guest tell of a panic of its kernel?"""

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig.console import PANIC
from cpuidlab.rig.host_machine import HostShell
from cpuidlab.rig.readout import read_files

ANSWER_SECONDS = 10.0


def guest_panic(host: HostShell, console: str, deadline: Deadline) -> str | None:
    """Return the line of the guest's console, a file on the host, that tells of a panic.

    Returns None where there is no such line, or where the host does not answer in time. Raises LostVMError where the
    host's machine has ended.
    """
    try:
        files = read_files(host, {"console": console}, deadline.within(ANSWER_SECONDS))
    except LostVMError:
        raise
    except LabError:
        return None
    panic = PANIC.search(files["console"])
    return panic[0].strip() if panic else None
