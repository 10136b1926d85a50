"""What a machine of Bochs boots: a kernel laid out in memory, and the ROM that starts it."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.rig import bochs_boot
from cpuidlab.rig.host_machine import Boot

SECTS = 3
SETUP = (SECTS + 1) * 512


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("memory")
    os.truncate(descriptor, 1 << 30)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    kernel, initrd = tmp_path / "vmlinuz", tmp_path / "initrd"
    image = bytearray(b"\x11" * SETUP + b"protected-mode code")
    image[0x1F1] = SECTS
    image[0x202:0x206] = b"HdrS"
    kernel.write_bytes(image)
    initrd.write_bytes(b"an archive")
    return Boot(kernel, initrd, "console=ttyS0 quiet", "bochs", "corei7_haswell_4770")


def _read(memory: int, at: int, form: str) -> int:
    value: int = struct.unpack(form, os.pread(memory, struct.calcsize(form), at))[0]
    return value


def test_all_parts_lie_where_the_header_says(memory: int, boot: Boot) -> None:
    bochs_boot.lay_out(memory, boot)
    at = bochs_boot.SETUP
    initrd, size, words = (_read(memory, at + offset, "<I") for offset in (0x218, 0x21C, 0x228))
    assert os.pread(memory, size, initrd) == b"an archive"
    assert os.pread(memory, 20, words) == b"console=ttyS0 quiet\0"
    assert os.pread(memory, 19, 0x100000) == b"protected-mode code"
    assert os.pread(memory, 4, at + SETUP) == bytes(4)  # nothing but the setup code lies there
    assert _read(memory, at + 0x210, "B") == 0xFF
    assert _read(memory, at + 0x211, "B") & 0x81 == 0x81
    assert _read(memory, at + 0x224, "<H") + 0x200 == bochs_boot.STACK


def test_a_file_that_is_no_kernel_is_refused(memory: int, boot: Boot) -> None:
    boot.kernel.write_bytes(bytes(4096))
    with pytest.raises(LabError, match="vmlinuz is no bzImage"):
        bochs_boot.lay_out(memory, boot)


def test_the_setup_code_ends_below_the_stack(memory: int, boot: Boot) -> None:
    assert bochs_boot.SETUP + bochs_boot.STACK < bochs_boot.FLAG < bochs_boot.COMMAND_LINE < 0x9FC00


@pytest.mark.parametrize("make", [bochs_boot.boot_rom, bochs_boot.vga_rom])
def test_bios_accepts_a_rom(make: object) -> None:
    rom = make()  # type: ignore[operator]
    assert rom[:3] == bytes([0x55, 0xAA, 1])
    assert len(rom) == 512
    assert sum(rom) % 256 == 0


def test_the_rom_knows_where_things_lie() -> None:
    source = bochs_boot.ROM.read_text()
    assert f"${bochs_boot.SETUP >> 4:#x}, %ax" in source
    assert f"ljmp ${(bochs_boot.SETUP >> 4) + 0x20:#x}, $0" in source
    assert f"mov ${bochs_boot.STACK:#x}, %sp" in source
    flag = int.from_bytes(b"BOOT", "little")
    assert f"cmpl ${flag:#x}, {bochs_boot.FLAG - bochs_boot.SETUP:#x}" in source
