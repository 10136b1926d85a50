"""The named parts of CPUID: data in tooling/cpuid-fields.toml, and how leaves, registers and bits are written."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cpuidlab.base.paths import TOOLING

Register = Literal["eax", "ebx", "ecx", "edx"]
REGISTERS: tuple[Register, ...] = ("eax", "ebx", "ecx", "edx")


@dataclass(frozen=True)
class Field:
    """A named part of a register: bits low..high, both included, and the text that defines it."""

    name: str
    leaf: int
    subleaf: int
    register: Register
    low: int
    high: int
    source: str

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return (2 << self.high) - (1 << self.low)

    @property
    def bits(self) -> str:
        """Such as `7:0`, or `27` for one bit."""
        return f"{self.high}:{self.low}" if self.high != self.low else f"{self.low}"

    def of(self, word: int) -> int:
        """The field's value in a register's word."""
        return (word & self.mask) >> self.low

    def where(self) -> str:
        """Such as `leaf 0x80000008 EAX[7:0]`."""
        return f"{leaf_name(self.leaf, self.subleaf)} {self.register.upper()}[{self.bits}]"


def leaf_name(leaf: int, subleaf: int) -> str:
    """Such as `leaf 0xd.1`."""
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
