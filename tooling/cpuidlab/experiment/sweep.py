"""A sweep: what KVM does with each single bit of a vCPU's model flipped. Plain data, and whether it can be true."""

import errno as errnos
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from cpuidlab.base.errors import LabError
from cpuidlab.experiment.note import Note
from cpuidlab.kvm.changes import RUNTIME_FIELDS
from cpuidlab.kvm.cpuid import Entry, Model, find
from cpuidlab.kvm.fields import FIELDS, leaf_name
from cpuidlab.kvm.hook_log import HookEvent

Outcome = Literal["refused", "applied", "ignored", "other"]  # in the hook's order
Word = Literal["flags", "eax", "ebx", "ecx", "edx"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
WORDS: tuple[Word, ...] = get_args(Word)
ALL = 0xFFFFFFFF
_FIRST_WORD = 2  # in the hook's count the words of an entry begin with function and index

_CHECKED = FIELDS["linear_bits"]  # refused by kvm_check_cpuid() in every era

Key = tuple[int, int, Word]  # leaf, subleaf
Bits = Mapping[Key, int]


@dataclass(frozen=True)
class Row:
    """One word of one entry, its value, and its 32 bits by what became of the flip, each bit in one mask.

    Refused and ignored leave the model as it was, applied is what was asked for. `errnos` names, by bit, the errno of a
    refusal that was not EINVAL, or that changed the model nevertheless: then the bit is among the `other` ones.
    """

    leaf: int
    subleaf: int
    word: Word
    value: int
    masks: Mapping[Outcome, int]
    errnos: Mapping[int, str]

    @property
    def key(self) -> Key:
        """What it is a row of."""
        return self.leaf, self.subleaf, self.word


@dataclass(frozen=True)
class Removal:
    """What became of the model without that entry; `errno` is empty where it was accepted."""

    leaf: int
    subleaf: int
    outcome: Outcome
    errno: str


@dataclass(frozen=True)
class Counts:
    """Calls of KVM_SET_CPUID2: trials accepted and refused, and how often the model was put back."""

    accepted: int
    refused: int
    restored: int


@dataclass(frozen=True)
class Sweep:
    """All that one sweep told; `seconds` is the time of the flips in the hook."""

    rows: tuple[Row, ...]
    removals: tuple[Removal, ...]
    seconds: float

    @property
    def model(self) -> Model:
        """The model that was swept, in KVM's order."""
        entries: dict[tuple[int, int], list[int]] = {}
        for row in self.rows:
            entries.setdefault((row.leaf, row.subleaf), []).append(row.value)
        return tuple(
            Entry(leaf, subleaf, flags, eax, ebx, ecx, edx)
            for (leaf, subleaf), (flags, eax, ebx, ecx, edx) in entries.items()
        )

    @property
    def counts(self) -> Counts:
        """How many calls must have been made for this to be found."""
        trials = 32 * len(self.rows) + len(self.removals)
        kept = sum(row.masks["refused"].bit_count() for row in self.rows)
        kept += sum(one.outcome == "refused" for one in self.removals)
        torn = sum(row.masks["other"] >> bit & 1 for row in self.rows for bit in row.errnos)
        torn += sum(one.outcome == "other" and bool(one.errno) for one in self.removals)
        return Counts(trials - kept - torn, kept + torn, trials - kept)

    @property
    def removals_taken(self) -> tuple[tuple[int, int], ...]:
        """Leaf and subleaf of each entry that the model may lack."""
        return tuple((one.leaf, one.subleaf) for one in self.removals if one.outcome != "refused")

    def bits(self, *outcomes: Outcome) -> Bits:
        """The bits of which one of these became."""
        return {row.key: sum(row.masks[one] for one in outcomes) for row in self.rows}


def owned(model: Model) -> Bits:
    """The bits that KVM may keep itself, as far as this model has their leaves.

    Whether it does where the feature behind a bit is missing differs: since Linux 6.14 (1f66590d7ff0)
    OSPKE is kept without PKU too.
    """
    found: dict[Key, int] = {}
    for name, _ in RUNTIME_FIELDS:
        field = FIELDS[name]
        entry = find(model, field.leaf, field.subleaf)
        if entry:
            found[entry.function, entry.index, field.register] = field.mask
    return found


def taken(sweep: Sweep) -> Bits:
    """The bits that were accepted, without those that KVM keeps itself and that changed nothing."""
    kept, refused, ignored = owned(sweep.model), sweep.bits("refused"), sweep.bits("ignored")
    return {key: ALL & ~refused[key] & ~(ignored[key] & kept.get(key, 0)) for key in refused}


def note_of(sweep: Sweep) -> Note:
    """Say what a sweep amounts to: all refused but what KVM keeps itself, all taken but what KVM checks, or neither."""
    if not any(taken(sweep).values()) and not sweep.removals_taken:
        return Note.ALL_REFUSED
    checked: Bits = {(_CHECKED.leaf, _CHECKED.subleaf, _CHECKED.register): _CHECKED.mask}
    refused = any(mask & ~checked.get(key, 0) for key, mask in sweep.bits("refused").items())
    all_removed = len(sweep.removals_taken) == len(sweep.removals)
    return Note.ALL_TAKEN if all_removed and not refused else Note.PARTLY_TAKEN


def parse(lines: Sequence[str]) -> tuple[Sweep, Counts]:
    """Read the hook's answer: the sweep, and the counts that it ends with. Raises LabError where it is garbled."""
    try:
        return _parse(lines)
    except (ValueError, IndexError, KeyError) as error:
        raise LabError(f"the hook broke its protocol in a sweep: {type(error).__name__} {error}") from error


def _parse(lines: Sequence[str]) -> tuple[Sweep, Counts]:
    told: dict[str, list[list[str]]] = {"e": [], "m": [], "x": [], "r": []}
    for line in lines[:-1]:
        kind, *words = line.split()
        told[kind].append(words)
    last = re.fullmatch(r"ok nent=(\d+) accepted=(\d+) refused=(\d+) restored=(\d+) ns=(\d+)", lines[-1])
    model = [[int(word, 16) for word in words] for words in told["e"]]
    if last is None or int(last[1]) != len(model):
        raise ValueError(lines[-1])
    errors: dict[tuple[str, str], dict[int, str]] = {}
    for entry, word, bit, number in told["x"]:
        errors.setdefault((entry, word), {})[int(bit)] = _errno(number)
    rows = []
    for entry, word, *masks in told["m"]:
        leaf, subleaf, *values = model[int(entry)]
        at = int(word) - _FIRST_WORD
        by_outcome = dict(zip(OUTCOMES, (int(mask, 16) for mask in masks), strict=True))
        rows.append(Row(leaf, subleaf, WORDS[at], values[at], by_outcome, errors.get((entry, word), {})))
    removals = [
        Removal(model[int(entry)][0], model[int(entry)][1], OUTCOMES[int(mask)], _errno(number))
        for entry, mask, number in told["r"]
    ]
    return Sweep(tuple(rows), tuple(removals), int(last[5]) / 1e9), Counts(*(int(last[at]) for at in (2, 3, 4)))


def _errno(number: str) -> str:
    return errnos.errorcode.get(int(number), f"errno {number}") if int(number) else ""


def check(sweep: Sweep, counts: Counts, before: Model, after: Model, log: Sequence[HookEvent]) -> None:
    """Raise LabError unless the sweep is whole and its witnesses agree.

    They are the masks, the counts that the hook answers with, the one line of its log, and the model before and after.
    """
    wanted = [((entry.function, entry.index, word), getattr(entry, word)) for entry in before for word in WORDS]
    swept = [(row.key, row.value) for row in sweep.rows]
    torn = [row for row in sweep.rows if not sum(row.masks.values()) == _joined(row) == ALL]
    logged = [Counts(event.accepted or 0, event.refused or 0, event.restored or 0) for event in log]
    wrong = (
        (len(set(wanted)) < len(wanted), "the model has two entries for one leaf"),
        ([key for key, _ in swept] != [key for key, _ in wanted], "not each word of each entry was swept once"),
        (bool(torn), f"not each bit was tried once in {_names(torn)}"),
        ([(one.leaf, one.subleaf) for one in sweep.removals] != [(entry.function, entry.index) for entry in before],
         "not each entry was left out once"),
        (swept != wanted, "the model swept is not the one that KVM told before"),
        (counts != sweep.counts, f"what was found takes {sweep.counts}, the hook made {counts}"),
        (logged != [counts], f"the hook answered {counts}, its log has {logged}"),
        (after != before, "the model afterwards is not the one from before"),
    )  # fmt: skip
    for is_wrong, text in wrong:
        if is_wrong:
            raise LabError(f"the sweep is not to be trusted: {text}; see the hook's log")


def _joined(row: Row) -> int:
    joined = 0
    for mask in row.masks.values():
        joined |= mask
    return joined


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(f"{leaf_name(row.leaf, row.subleaf)} {row.word}" for row in rows)
