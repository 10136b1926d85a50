"""Bochs's command line for a nested host, and the variables of tooling/bochs/bochsrc."""

from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base.paths import TOOLING
from cpuidlab.rig.bochs import Bochs, bochs
from cpuidlab.rig.qemu_command import MEMORY_MIB

CPU_MODEL = "corei7_haswell_4770"  # of a nested host: VMX with EPT and unrestricted guests
MACHINE = TOOLING / "bochs" / "bochsrc"
CONFIG = "config"  # the copy of MACHINE in the folder of a saved machine
MOST_PATH = 400  # bytes: Bochs has 512 for the path of each file of a saved machine


@dataclass(frozen=True)
class Files:
    """The descriptors that a machine inherits; `line` and `control` are sockets."""

    memory: int
    control: int
    console: int
    line: int
    boot_rom: int
    vga_rom: int

    @property
    def all(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(vars(self).values())


def words(build: Bochs, saved: Path | None = None) -> list[str]:
    """Return the words that start a machine cold, or restore the one in the folder `saved`."""
    return [str(build.program), "-q", *(["-r", str(saved)] if saved else ["-f", str(MACHINE)])]


def variables(build: Bochs, model: str, files: Files) -> dict[str, str]:
    """Return the environment of a machine with that CPU: what bochsrc and our patch of Bochs read."""
    numbers = {
        "BOCHS_RAM": files.memory, "BOCHS_CONTROL": files.control, "CONSOLE": files.console, "LINE": files.line,
        "BOOT_ROM": files.boot_rom, "VGA_ROM": files.vga_rom, "MEGS": MEMORY_MIB,
    }  # fmt: skip
    return {"BIOS": str(build.bios), "MODEL": model, **{name: str(number) for name, number in numbers.items()}}


def identity(model: str) -> str:
    """Return what a snapshot depends on beside what it boots: the build of Bochs, and the machine."""
    return f"{bochs().folder.name} {model} {MEMORY_MIB} {MACHINE.read_text()}"
