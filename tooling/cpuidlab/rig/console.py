"""Lines on the console of a VM that say that it is up, or that its boot cannot succeed."""

import re

from cpuidlab.base.errors import HopelessBootError, LostVMError

UP = {"host": "LAB: host up", "guest": "LAB: guest up"}  # the last line of guests/*/rc
PANIC = re.compile(r"Kernel panic - not syncing[^\r\n]*")
# Lines after which the next boot would fail too: of the kernel (init/initramfs.c, init/main.c), of busybox, of our rc.
HOPELESS = re.compile(
    r"Initramfs unpacking failed[^\r\n]*"
    r"|No working init found[^\r\n]*"
    r"|can't (?:run|execute|open) '/[^\r\n]*"
    r"|[^\r\n]*: No such device\b[^\r\n]*"
    # a whole line, not a line that is being written
    rf"|LAB: (?!{'|'.join(up.removeprefix('LAB: ') for up in UP.values())})[^\r\n]*(?=[\r\n])"
)


def failed_boot(name: str, role: str, console: str) -> LostVMError | None:
    """Return why the "host" or "guest" `name` does not boot, by its console; None where the console has no such line.

    A line that makes a boot hopeless is told before a panic, which may follow from it.
    """
    for pattern, kind in ((HOPELESS, HopelessBootError), (PANIC, LostVMError)):
        line = pattern.search(console)
        if line:
            return kind(f"{name}: the {role}'s console says: {line[0].strip()}")
    return None
