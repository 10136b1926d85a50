"""What the console of a VM says where its boot cannot succeed: nobody need wait any longer."""

import re

from cpuidlab.base.errors import HopelessBootError, LostVMError

UP = {"host": "LAB: host up", "guest": "LAB: guest up"}  # the last line of guests/*/rc
PANIC = re.compile(r"Kernel panic - not syncing[^\r\n]*")
# The next boot would say the same. The kernel's lines: init/initramfs.c, init/main.c; the others: busybox and our rc.
HOPELESS = re.compile(
    r"Initramfs unpacking failed[^\r\n]*"
    r"|No working init found[^\r\n]*"
    r"|can't (?:run|execute|open) '/[^\r\n]*"
    r"|[^\r\n]*: No such device\b[^\r\n]*"
    # a whole line, not one half written
    rf"|LAB: (?!{'|'.join(up.removeprefix('LAB: ') for up in UP.values())})[^\r\n]*(?=[\r\n])"
)


def failed_boot(name: str, whose: str, said: str) -> LostVMError | None:
    """Return the error for a console that has `said` why the "host" or "guest" called `name` does not boot, or None.

    What makes a boot hopeless comes first: a panic may follow from it.
    """
    for pattern, kind in ((HOPELESS, HopelessBootError), (PANIC, LostVMError)):
        found = pattern.search(said)
        if found:
            return kind(f"{name}: the {whose}'s console says: {found[0].strip()}")
    return None
