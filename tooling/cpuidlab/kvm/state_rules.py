"""What of a vCPU's state may differ after a call: the rows of tooling/vcpu-state.toml, whose head explains them."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from cpuidlab.kvm.state_fields import table
from cpuidlab.kvm.vcpu_state import Difference

FORWARD = 1 << 40
UNTOLD = "-"  # the value of an MSR that KVM does not tell
_Row = Mapping[str, Any]


def without_what_moves(differences: Iterable[Difference], *, live: bool = False) -> tuple[Difference, ...]:
    """Leave out what moves by itself; `live`: while other vCPUs run."""
    rows = [row for row in table()["moves"] if live or not row.get("live")]
    return tuple(one for one in differences if not any(_fits(row, one) and _as_told(row, one) for row in rows))


def not_of_a_change(change: str, differences: Sequence[Difference], vcpu: int) -> tuple[Difference, ...]:
    """Leave out what an accepted change of that name may alter on the called vCPU; all of it where the table does not
    name the change, for nobody promises anything then. `change` may be several, joined by commas."""
    names = {one.partition("=")[0] for one in change.split(",")}
    accepts = table()["accepted"]
    if not names <= set(accepts["names"]):
        return tuple(one for one in differences if one.vcpu != vcpu)
    rows = [row for row in accepts.get("may", ()) if names & set(row["names"])]
    return tuple(one for one in differences if one.vcpu != vcpu or not any(_fits(row, one) for row in rows))


def _fits(row: _Row, difference: Difference) -> bool:
    return row["part"] == difference.part and any(fnmatchcase(difference.field, field) for field in row["fields"])


def _as_told(row: _Row, difference: Difference) -> bool:
    if row["how"] == "any":
        return True
    if UNTOLD in (difference.old, difference.new):
        return False
    old, new = int(difference.old, 16), int(difference.new, 16)
    return 0 < new - old < FORWARD if row["how"] == "forward" else not old & ~new  # "sets"
