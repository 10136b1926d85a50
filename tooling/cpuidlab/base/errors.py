"""Name the ways in which the lab itself fails; a broken promise of a kernel is a verdict, never an exception."""

import errno

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
NO_RIG = "NoRig"  # Avocado's class of failure for a test that never began, because its rig cannot be made


class UsageError(Exception):
    """The user asked for something impossible: one line, exit code 2."""


class UnsupportedError(UsageError):
    """This machine cannot do what was asked, with whatever kernel."""


class LabError(Exception):
    """The lab failed (boot, SSH, download, disk): verdict ERROR, exit code 125 where nothing was tested.

    The message's first line says what happened and what to do; `evidence` holds the longer story.
    """

    def __init__(self, message: str, evidence: str = "") -> None:
        super().__init__(message)
        self.evidence = evidence


class LostVMError(LabError):
    """A virtual machine ended, panicked or closed its QMP connection while the lab waited for it."""


class UnknownCommandError(LabError):
    """QEMU does not know a command of QMP: it is older than the command."""


class HopelessBootError(LostVMError):
    """A booting machine printed why it cannot come up, and the next boot would end in the same way."""


class ClosedError(LabError):
    """The other side has closed the connection; the machine of the other side still runs."""


class GivenUpError(LabError):
    """KVM has met a bug of its own in this VM and answers each call with EIO (KVM_BUG_ON): the kernel's fault."""
