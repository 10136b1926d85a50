"""The calls that a first vCPU or a first KVM_RUN may freeze (data in tooling/freeze.toml)."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from cpuidlab.base.paths import TOOLING

Phase = Literal["no vCPU", "not run", "has run"]
PHASES: tuple[Phase, ...] = get_args(Phase)
UNTRIED = "-"


@dataclass(frozen=True)
class FreezeRead:
    """An ioctl that reads a structure of `size` bytes; where KVM took what it accepted it has `wanted` at `offset`."""

    ioctl: str
    size: int
    offset: int
    wanted: bytes

    def sees(self, data: bytes) -> bool:
        """Whether the structure has the bytes."""
        return data[self.offset :].startswith(self.wanted)


@dataclass(frozen=True)
class FreezeCall:
    """One call to try; the fields are explained at the head of freeze.toml."""

    name: str
    text: str
    on: Literal["vm", "vcpu"]
    ioctl: str
    arg: int | bytes
    cap: int | None
    args: tuple[int, ...]
    needs: int | None
    first: tuple[str, ...]
    msrs: tuple[tuple[int, int], ...]
    read: FreezeRead | None
    right: str

    @property
    def phases(self) -> tuple[Phase, ...]:
        """When it can be tried."""
        return PHASES if self.on == "vm" else PHASES[1:]


@cache
def calls() -> Mapping[str, FreezeCall]:
    """Every call by its name, in the table's order."""
    return {row["name"]: _call(row) for row in rows()["call"]}


@cache
def rows() -> Mapping[str, list[dict[str, Any]]]:
    """The table as it stands in the file."""
    return tomllib.loads((TOOLING / "freeze.toml").read_text())


def _call(row: Mapping[str, Any]) -> FreezeCall:
    return FreezeCall(
        name=row["name"],
        text=row["text"],
        on=row.get("on", "vm"),
        ioctl=row.get("ioctl", "KVM_ENABLE_CAP"),
        arg=bytes.fromhex(row["data"]) if "data" in row else row.get("arg", 0),
        cap=row.get("cap"),
        args=tuple(row.get("args", ())),
        needs=row.get("needs", row.get("cap")),
        first=tuple(row.get("first", ())),
        msrs=tuple((index, value) for index, value in row.get("msrs", ())),
        read=_read(*row["read"]) if "read" in row else None,
        right=row.get("right", ""),
    )


def _read(ioctl: str, size: int, offset: int, wanted: str) -> FreezeRead:
    return FreezeRead(ioctl, size, offset, bytes.fromhex(wanted))
