"""A mutability map: the sweep of one kernel with what it was made on, to JSON and back."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from cpuidlab.base.errors import UsageError
from cpuidlab.experiment.freeze import FreezeMap
from cpuidlab.experiment.sweep import ALL, OUTCOMES, Outcome, Removal, Row, Sweep, Word
from cpuidlab.kvm.fields import FIELDS
from cpuidlab.report import freeze_data

SCHEMA = 2
_OLD_PLACE = ("host", "release", "paging", "accel", "cpu", "guest")
_PLACE = (*_OLD_PLACE, "version")
_REST = {"schema", "seconds", "rows", "removals", "fields"}
_SHAPES = {1: {*_OLD_PLACE, *_REST}, SCHEMA: {*_PLACE, *_REST, "freeze"}}


@dataclass(frozen=True)
class Map:
    """What one kernel does, in one paging mode.

    `version` is that of the kernel's package. `cpu` is what the guest's QEMU was told of its CPU, `guest` is "stable"
    or what became of the guest after the sweep. `freeze` is None in a file of schema 1.
    """

    host: str
    release: str
    version: str
    paging: str
    accel: str
    cpu: str
    guest: str
    sweep: Sweep
    freeze: FreezeMap | None = None

    @property
    def name(self) -> str:
        """Such as `6.12 npt`."""
        return f"{self.host} {self.paging}"


def to_data(found: Map) -> dict[str, object]:
    """The map as plain data; words and masks are hexadecimal text, and `fields` names the bits of its leaves."""
    leaves = {(row.leaf, row.subleaf) for row in found.sweep.rows}
    return {
        "schema": SCHEMA,
        **{name: getattr(found, name) for name in _PLACE},
        "seconds": found.sweep.seconds,
        "rows": [_row_data(row) for row in found.sweep.rows],
        "removals": [asdict(one) | {"leaf": f"0x{one.leaf:x}"} for one in found.sweep.removals],
        "fields": [
            {"name": one.name, "leaf": f"0x{one.leaf:x}", "subleaf": one.subleaf, "register": one.register,
             "bits": one.bits, "source": one.source}
            for one in FIELDS.values() if (one.leaf, one.subleaf) in leaves
        ],
        "freeze": found.freeze and freeze_data.to_data(found.freeze),
    }  # fmt: skip


def write(found: Map, path: Path) -> None:
    """Write a file that `read` reads back."""
    path.write_text(json.dumps(to_data(found), indent=1) + "\n")


def read(path: Path) -> Map:
    """The map of a file; UsageError where the file is missing or is something else."""
    try:
        return _map(json.loads(path.read_text()))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path} is no map of a sweep: {type(error).__name__} {error}") from error


def _row_data(row: Row) -> dict[str, object]:
    masks = {str(one): f"0x{row.masks[one]:08x}" for one in OUTCOMES}
    errnos = {str(bit): name for bit, name in row.errnos.items()}
    place = {"leaf": f"0x{row.leaf:x}", "subleaf": row.subleaf, "register": row.word, "value": f"0x{row.value:08x}"}
    return {**place, **masks, "errnos": errnos}


def _map(data: dict[str, Any]) -> Map:
    if set(data) != _SHAPES.get(data["schema"]):
        raise ValueError(f"it should have schema {SCHEMA} and {', '.join(sorted(_SHAPES[SCHEMA]))}")
    data = {"version": data["release"], "freeze": None, **data}
    if not all(isinstance(data[name], str) for name in _PLACE):
        raise TypeError(f"{', '.join(_PLACE)} should be text")
    removals = tuple(_removal(one) for one in data["removals"])
    sweep = Sweep(tuple(_row(one) for one in data["rows"]), removals, float(data["seconds"]))
    freeze = None if data["freeze"] is None else freeze_data.from_data(data["freeze"])
    return Map(**{name: data[name] for name in _PLACE}, sweep=sweep, freeze=freeze)


def _row(data: dict[str, Any]) -> Row:
    if data["register"] not in get_args(Word):
        raise ValueError(f"register {data['register']!r}")
    masks: dict[Outcome, int] = {one: _number(data[one]) for one in OUTCOMES}
    if sum(masks.values()) != ALL:
        raise ValueError(f"leaf {data['leaf']} {data['register']} does not have each bit in one mask")
    errnos = {int(bit): str(name) for bit, name in data["errnos"].items()}
    return Row(_number(data["leaf"]), int(data["subleaf"]), data["register"], _number(data["value"]), masks, errnos)


def _removal(data: dict[str, Any]) -> Removal:
    if data["outcome"] not in OUTCOMES or set(data) != {one.name for one in fields(Removal)}:
        raise ValueError(f"removal {data!r}")
    return Removal(_number(data["leaf"]), int(data["subleaf"]), data["outcome"], str(data["errno"]))


def _number(text: str) -> int:
    number = int(text, 16)
    if not 0 <= number <= ALL:
        raise ValueError(f"{text} is no word of 32 bits")
    return number
