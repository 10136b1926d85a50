"""Sweeps in words: sets of bits by the names of their fields, what a kernel takes, and how two kernels differ."""

from collections.abc import Mapping, Sequence

from cpuidlab.experiment.note import Note
from cpuidlab.experiment.sweep import ALL, OUTCOMES, WORDS, Bits, Key, Outcome, Sweep, note_of, taken
from cpuidlab.experiment.words import NOTE_WORDS
from cpuidlab.judge.prediction import of_release
from cpuidlab.kvm.fields import FIELDS, leaf_name
from cpuidlab.report import freeze_text
from cpuidlab.report.bit_ranges import bit_ranges
from cpuidlab.report.sweep_map import Map

# Why a bit of a field became that, where it is known.
EXPLAINED: dict[tuple[str, Outcome], str] = {
    ("ospke", "ignored"): "kept without PKU too since Linux 6.14, 1f66590d7ff0",
}


def summary(sweep: Sweep) -> str:
    """What a sweep amounts to; where it is neither all refused nor all taken, the bits and entries that are taken."""
    note = note_of(sweep)
    if note is not Note.PARTLY_TAKEN:
        return NOTE_WORDS[note]
    return f"taken: {described(taken(sweep), sweep)}; removals taken: {_leaves(sweep.removals_taken, sweep)}"


def outcomes(sweep: Sweep) -> dict[Outcome, str]:
    """For each outcome its bits in words; empty where it came to none."""
    bits = {one: sweep.bits(one) for one in OUTCOMES}
    return {one: described(bits[one], sweep) if any(bits[one].values()) else "" for one in OUTCOMES}


def described(bits: Bits, sweep: Sweep) -> str:
    """A set of bits by names, the shorter way: what is in it, or all but what is not."""
    whole = {row.key: ALL for row in sweep.rows}
    rest = _without(whole, bits)
    if not rest:
        return "every bit"
    if _count(bits) * 2 > _count(whole):
        return f"every bit but {_listed(rest)}"
    return _listed(bits) or "nothing"


def difference(old: Map, new: Map) -> tuple[str, ...]:
    """What is different in `new`, a sentence each; empty where both took and refused the same of the same leaves."""
    lines = [*_leaf_lines(old, new), *_bit_lines(old, new), *_errno_lines(old, new), *_removal_lines(old, new)]
    lines += freeze_text.difference(old, new)
    return (*lines, *(_era_lines(old, new) if lines else ()))


def _era_lines(old: Map, new: Map) -> list[str]:
    """What the versions promise, unless KVM was rebuilt with a patch."""
    if any("+" in one.host for one in (old, new)):
        return []
    eras = [era for one in (old, new) if (era := of_release(one.release, one.version).era)]
    if len(eras) < 2 or eras[0] == eras[1]:
        return []
    first, second = sorted(eras, key=lambda era: era.ranges[-1].start)
    return [f"by their versions one is of era {first.name}, the other of {second.name} ({', '.join(second.commits)})"]


def _leaf_lines(old: Map, new: Map) -> list[str]:
    lines = []
    for one, other in ((old, new), (new, old)):
        lacking = {row.key[:2]: None for row in one.sweep.rows if row.key not in other.sweep.bits("refused")}
        if lacking:
            lines.append(f"in the model on {one.name} only: {', '.join(leaf_name(*leaf) for leaf in lacking)}")
    return lines


def _bit_lines(old: Map, new: Map) -> list[str]:
    shared = [row for row in old.sweep.rows if row.key in new.sweep.bits("refused")]
    both = Sweep(tuple(shared), (), 0.0)
    lines = []
    for was in OUTCOMES:
        for becomes in OUTCOMES:
            before, after = both.bits(was), new.sweep.bits(becomes)
            moved = {key: before[key] & after[key] for key in before}
            if was != becomes and any(moved.values()):
                names = described(moved, both)
                lines.append(f"{was} on {old.name}, {becomes} on {new.name}: {names} ({_bits_text(_count(moved))})")
                lines[-1] += "".join(
                    f"; {name} is {text}"
                    for (name, outcome), text in EXPLAINED.items()
                    if outcome in (was, becomes) and _count(_common(moved, _fields((name,))))
                )
    return lines


def _errno_lines(old: Map, new: Map) -> list[str]:
    then = {(row.key, bit): name for row in old.sweep.rows for bit, name in row.errnos.items()}
    now = {(row.key, bit): name for row in new.sweep.rows for bit, name in row.errnos.items()}
    lines = []
    for key, bit in sorted({*then, *now}):
        a, b = then.get((key, bit)), now.get((key, bit))
        if a != b:
            where = _listed({key: 1 << bit})
            lines.append(f"{where}: errno {a or 'usual'} on {old.name}, {b or 'usual'} on {new.name}")
    return lines


def _removal_lines(old: Map, new: Map) -> list[str]:
    then = {(one.leaf, one.subleaf): one for one in old.sweep.removals}
    moved: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for one in new.sweep.removals:
        was = then.get((one.leaf, one.subleaf))
        if was and (was.outcome, was.errno) != (one.outcome, one.errno):
            key = f"{was.outcome} {was.errno}".strip(), f"{one.outcome} {one.errno}".strip()
            moved.setdefault(key, []).append((one.leaf, one.subleaf))
    return [
        f"removal {was} on {old.name}, {becomes} on {new.name}: {_leaves(leaves, new.sweep)}"
        for (was, becomes), leaves in moved.items()
    ]


def _leaves(leaves: Sequence[tuple[int, int]], sweep: Sweep) -> str:
    if len(leaves) == len(sweep.removals):
        return "every leaf"
    rest = [(one.leaf, one.subleaf) for one in sweep.removals if (one.leaf, one.subleaf) not in leaves]
    if len(rest) < len(leaves):
        return f"every leaf but {', '.join(leaf_name(*leaf) for leaf in rest)}"
    return ", ".join(leaf_name(*leaf) for leaf in leaves) or "none"


def _listed(bits: Bits) -> str:
    by_leaf: dict[tuple[int, int], dict[str, int]] = {}
    for (leaf, subleaf, word), mask in bits.items():
        if mask:
            by_leaf.setdefault((leaf, subleaf), {})[word] = mask
    return "; ".join(f"{leaf_name(*leaf)}{_of_leaf(leaf, words)}" for leaf, words in by_leaf.items())


def _of_leaf(leaf: tuple[int, int], words: Mapping[str, int]) -> str:
    """What of a leaf: nothing more to say where it is all of it."""
    if all(words.get(word) == ALL for word in WORDS):
        return ""
    if sum(mask.bit_count() for mask in words.values()) > 16 * len(WORDS):
        rest = {word: ALL & ~words.get(word, 0) for word in WORDS}
        return f" but {', '.join(_of_word(leaf, word, mask) for word, mask in rest.items() if mask)}"
    return f" {', '.join(_of_word(leaf, word, mask) for word, mask in words.items())}"


def _of_word(leaf: tuple[int, int], word: str, mask: int) -> str:
    """The bits of one word, the shorter way."""
    if mask == ALL or mask.bit_count() <= 16:
        return ", ".join(names(leaf, word, mask))
    return f"{names(leaf, word, ALL)[0]} (without {', '.join(names(leaf, word, ALL & ~mask))})"


def names(leaf: tuple[int, int], word: str, mask: int) -> list[str]:
    """The bits of one word, such as ["ECX.osxsave", "ECX[7:5]"], or ["EBX"] for all of it."""
    shown = word if word == "flags" else word.upper()
    if mask == ALL:
        return [shown]
    found = []
    for field in FIELDS.values():
        if (field.leaf, field.subleaf, field.register) == (*leaf, word) and mask & field.mask:
            part = "" if mask & field.mask == field.mask else f"[{bit_ranges(mask & field.mask)}]"
            found.append(f"{shown}.{field.name}{part}")
            mask &= ~field.mask
    return [*found, *([f"{shown}[{bit_ranges(mask)}]"] if mask else [])]


def _fields(wanted: tuple[str, ...]) -> Bits:
    found: dict[Key, int] = {}
    for name in wanted:
        field = FIELDS[name]
        key: Key = (field.leaf, field.subleaf, field.register)
        found[key] = found.get(key, 0) | field.mask
    return found


def _common(bits: Bits, other: Bits) -> Bits:
    return {key: mask & other.get(key, 0) for key, mask in bits.items()}


def _without(bits: Bits, other: Bits) -> Bits:
    left = {key: mask & ~other.get(key, 0) for key, mask in bits.items()}
    return {key: mask for key, mask in left.items() if mask}


def _count(bits: Bits) -> int:
    return sum(mask.bit_count() for mask in bits.values())


def _bits_text(count: int) -> str:
    return f"{count:,} bits" if count > 1 else "1 bit"
