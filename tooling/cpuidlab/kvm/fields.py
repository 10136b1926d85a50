"""The named fields of CPUID, from tooling/cpuid-fields.toml, and how leaves, registers and bits are written."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cpuidlab.base.paths import TOOLING

Register = Literal["eax", "ebx", "ecx", "edx"]
REGISTERS: tuple[Register, ...] = ("eax", "ebx", "ecx", "edx")


@dataclass(frozen=True)
class Field:
    """A named part of a register: the bits from `low` to `high`, both included. `source` is a manual."""

    name: str
    leaf: int
    subleaf: int
    register: Register
    low: int
    high: int
    source: str

    @property
    def mask(self) -> int:
        """The bits of the field, at their place in the register."""
        return (2 << self.high) - (1 << self.low)

    @property
    def bits(self) -> str:
        """The bits as text: `7:0`, or `27` for one bit."""
        return f"{self.high}:{self.low}" if self.high != self.low else f"{self.low}"

    def of(self, word: int) -> int:
        """Return the value of the field in that value of its register."""
        return (word & self.mask) >> self.low

    def where(self) -> str:
        """Return where the field is, such as `leaf 0x80000008 EAX[7:0]`."""
        return f"{leaf_name(self.leaf, self.subleaf)} {self.register.upper()}[{self.bits}]"


def leaf_name(leaf: int, subleaf: int) -> str:
    """Return a leaf as text, such as `leaf 0xd.1`; subleaf 0 is left out."""
    return f"leaf 0x{leaf:x}" + (f".{subleaf}" if subleaf else "")


def _read() -> Iterator[Field]:
    for table in tomllib.loads((TOOLING / "cpuid-fields.toml").read_text())["leaf"]:
        for register in REGISTERS:
            for text in filter(None, table.get(register, "").split(",")):
                name, bits = text.split()
                high, _, low = bits.partition(":")
                leaf, subleaf = table["leaf"], table.get("subleaf", 0)
                yield Field(name, leaf, subleaf, register, int(low or high), int(high), table["source"])


FIELDS: dict[str, Field] = {field.name: field for field in _read()}
