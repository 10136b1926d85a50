"""Read what an x86 kernel image says of itself, by the boot protocol (Documentation/arch/x86/boot.rst)."""

import re
from dataclasses import dataclass
from pathlib import Path
from struct import unpack_from

from cpuidlab.base.errors import UsageError

# offsets of header fields in the file
SIGNATURE, PROTOCOL, KERNEL_VERSION, XLOADFLAGS, HEADER_END = 0x202, 0x206, 0x20E, 0x236, 0x268
XLF_KERNEL_64 = 1
_AT_MOST = 0x200 + 0xFFFF + 256  # the version's offset has 16 bits and counts from 0x200
_DEBIAN = re.compile(r" Debian (\d\S*)")


@dataclass(frozen=True)
class Banner:
    """The text at kernel_version, such as `6.1.0-rc2+ (me@here) #3 SMP PREEMPT_DYNAMIC Tue ...`."""

    text: str

    @property
    def release(self) -> str:
        """Return what `uname -r` will print."""
        return self.text.split()[0]

    @property
    def version(self) -> str:
        """Return the version to predict by. Debian's releases (6.1.0-56) lack the point release, the banner has it."""
        debian = _DEBIAN.search(self.text)
        return debian[1] if debian else self.release


def banner(image: Path) -> Banner:
    """Read a bzImage's banner; raises UsageError where the file is no kernel image for x86-64."""
    with image.open("rb") as file:
        head = file.read(_AT_MOST)
    if len(head) < HEADER_END or head[SIGNATURE : SIGNATURE + 4] != b"HdrS":
        raise UsageError(f"{image} is no bzImage for x86: it lacks the boot header")
    protocol, at, flags = (unpack_from("<H", head, offset)[0] for offset in (PROTOCOL, KERNEL_VERSION, XLOADFLAGS))
    if protocol < 0x20C or not flags & XLF_KERNEL_64:
        raise UsageError(f"{image} is no 64-bit kernel, and only those run KVM here")
    text = head[at + 0x200 :].partition(b"\0")[0].decode(errors="replace").strip()
    if not at or not text:
        raise UsageError(f"{image} does not tell its version (kernel_version in its boot header)")
    return Banner(text)
