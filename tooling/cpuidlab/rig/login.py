"""Log in to a VM over SSH, again and again until its server lets us in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cpuidlab.base.deadline import Deadline, wait_for
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig.keys import Keys
from cpuidlab.rig.streams import Stream

if TYPE_CHECKING:
    from cpuidlab.rig.ssh import Ssh

# For one attempt: a server that is coming up may never answer the first connection.
SSH_TRY_SECONDS = 10.0


def log_in(
    who: str, rig: str, open_stream: Callable[[], Stream], keys: Keys, *, patience: Deadline, watch: Callable[[], None]
) -> Ssh:
    """Log in to `who`, the "host" or "guest" of `rig`, over a new stream for each attempt.

    `watch` raises LostVMError where the machine is gone. Raises LabError, with the last attempt's error, where no
    attempt succeeds before `patience`.
    """
    last = ""

    def attempt() -> Ssh | None:
        nonlocal last
        try:
            stream = open_stream()
            # The server of a host that was just restored takes as long to greet as paramiko takes to be imported.
            from cpuidlab.rig.ssh import Ssh  # noqa: PLC0415

            return Ssh(f"{who} {rig}", stream, keys, patience.within(SSH_TRY_SECONDS), watch)
        except LostVMError:
            raise
        except (LabError, OSError) as error:
            last = str(error)
            return None

    try:
        return wait_for(f"SSH to the {who} on {rig}", attempt, patience, watch)
    except LostVMError:
        raise
    except LabError as error:
        raise LabError(f"{error}; the last attempt: {last}") from error
