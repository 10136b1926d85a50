"""Lay out a kernel in the memory of a machine before it starts, as a boot loader would (arch/x86/boot.rst, 16-bit)."""

import os
import struct
from pathlib import Path

from cpuidlab.base.errors import LabError
from cpuidlab.base.paths import TOOLING
from cpuidlab.rig.compiled import compiled
from cpuidlab.rig.host_machine import Boot

ROM_SIZE = 512
ROM = TOOLING / "bochs" / "boot.S"
_ROM_FLAGS = (
    "-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-Ttext=0", "-Wl,--oformat=binary",
)  # fmt: skip

# Where things lie, in bytes; tooling/bochs/boot.S knows the first three.
SETUP, STACK, FLAG = 0x90000, 0x9000, 0x99FF0
COMMAND_LINE, KERNEL = 0x9A000, 0x100000
INITRD = 384 << 20  # above all that the kernel unpacks itself into, below what BIOS puts at the end of memory
_READY = b"BOOT"

# Fields of the setup header by their offsets.
_SETUP_SECTS, _MAGIC, _LOADER, _FLAGS, _RAMDISK, _HEAP_END, _CMD_LINE = 0x1F1, 0x202, 0x210, 0x211, 0x218, 0x224, 0x228
_OTHER_LOADER, _CAN_USE_HEAP, _LOADED_HIGH = 0xFF, 0x80, 0x01


def lay_out(memory: int, boot: Boot) -> None:
    """Write kernel, command line and initramfs into the file `memory`, a descriptor. LabError for no bzImage."""
    image = boot.kernel.read_bytes()
    if image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise LabError(f"{boot.kernel} is no bzImage")
    size = ((image[_SETUP_SECTS] or 4) + 1) * 512
    setup = bytearray(image[:size])
    setup[_LOADER] = _OTHER_LOADER
    setup[_FLAGS] |= _CAN_USE_HEAP | _LOADED_HIGH
    struct.pack_into("<H", setup, _HEAP_END, STACK - 0x200)
    struct.pack_into("<I", setup, _CMD_LINE, COMMAND_LINE)
    initrd = boot.initrd.read_bytes() if boot.initrd else b""
    struct.pack_into("<II", setup, _RAMDISK, INITRD, len(initrd))
    command_line = boot.words.encode() + b"\0"
    for offset, data in (
        (SETUP, setup), (COMMAND_LINE, command_line), (KERNEL, image[size:]), (INITRD, initrd), (FLAG, _READY),
    ):  # fmt: skip
        os.pwrite(memory, data, offset)


def boot_rom() -> bytes:
    """Return the option ROM that starts what was laid out."""
    code: Path = compiled("bochs-boot", [ROM], *_ROM_FLAGS)
    return rom(code.read_bytes())


def vga_rom() -> bytes:
    """Return a video BIOS that does nothing, in place of a real one: the console is a serial port."""
    return rom(bytes([0x55, 0xAA, ROM_SIZE // 512, 0xCB]))  # signature, length, RETF


def rom(code: bytes) -> bytes:
    """Return a ROM of ROM_SIZE bytes that begins with `code` and whose bytes add up to 0."""
    padded = code.ljust(ROM_SIZE - 1, b"\0")
    return padded + bytes([-sum(padded) % 256])
