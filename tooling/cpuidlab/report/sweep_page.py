"""What maps of several kernels look like together: one page and one Markdown text, call by call and leaf by leaf."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.experiment.sweep import ALL, OUTCOMES, WORDS, Row, Word
from cpuidlab.kvm.fields import FIELDS, leaf_name
from cpuidlab.report.freeze_page import freeze_markdown, freeze_part
from cpuidlab.report.markdown_table import as_table, plain
from cpuidlab.report.render import render
from cpuidlab.report.sweep_map import Map
from cpuidlab.report.sweep_text import difference, names, outcomes, summary

TITLE = "What can be changed once a vCPU exists, and once it has run"
PAGE, TABLE = "sweep.html", "sweep.md"
ABSENT = "absent"
MEANINGS = {
    "refused": "refused, the model stays",
    "applied": "accepted and applied",
    "ignored": "accepted, and the model stays: KVM keeps these bits itself",
    "other": "something else, such as another part of the model that follows",
    ABSENT: "no such leaf in the model",
}


@dataclass(frozen=True)
class Line:
    """Bits of one word that have the same fate on every kernel: their names, and one outcome a kernel."""

    names: tuple[str, ...]
    fates: tuple[str, ...]

    @property
    def special(self) -> bool:
        """Whether it stands out: not just refused by one kernel and applied by another."""
        return bool({"ignored", "other"} & set(self.fates))


@dataclass(frozen=True)
class Leaf:
    """All lines of one leaf; the last one tells of the model without it."""

    name: str
    lines: tuple[Line, ...]


def write_all(maps: Sequence[Map], folder: Path) -> None:
    """Write the page and the table."""
    (folder / PAGE).write_text(html(maps))
    (folder / TABLE).write_text(markdown(maps))


def leaves(maps: Sequence[Map]) -> tuple[Leaf, ...]:
    """Every leaf that one of the models has, in order."""
    rows = [{row.key: row for row in one.sweep.rows} for one in maps]
    removals = [{(one.leaf, one.subleaf): str(one.outcome) for one in each.sweep.removals} for each in maps]
    found = []
    for leaf in sorted({key[:2] for each in rows for key in each}):
        lines = [
            line for word in WORDS for line in _lines(leaf, word, [each.get((*leaf, word)) for each in rows])
        ]  # fmt: skip
        whole = Line(("without this leaf",), tuple(each.get(leaf, ABSENT) for each in removals))
        found.append(Leaf(leaf_name(*leaf), (*lines, whole)))
    return tuple(found)


def _lines(leaf: tuple[int, int], word: Word, rows: Sequence[Row | None]) -> list[Line]:
    bits: dict[tuple[str, ...], int] = {}
    for bit in range(32):
        fates = tuple(_fate(row, bit) for row in rows)
        bits[fates] = bits.get(fates, 0) | 1 << bit
    return [Line(_all_names(leaf, word, mask), fates) for fates, mask in bits.items()]


def _fate(row: Row | None, bit: int) -> str:
    return next((str(one) for one in OUTCOMES if row.masks[one] >> bit & 1), ABSENT) if row else ABSENT


def _all_names(leaf: tuple[int, int], word: Word, mask: int) -> tuple[str, ...]:
    """As `names`, and for a whole register its fields too."""
    fields = [one.name for one in FIELDS.values() if (one.leaf, one.subleaf, one.register) == (*leaf, word)]
    return (*names(leaf, word, mask), *(fields if mask == ALL else ()))


def classes(maps: Sequence[Map]) -> list[list[Map]]:
    """The maps put together that do not differ."""
    found: list[list[Map]] = []
    for one in maps:
        same = next((group for group in found if not difference(group[0], one)), None)
        if same is None:
            found.append([one])
        else:
            same.append(one)
    return found


def differences(maps: Sequence[Map]) -> list[tuple[str, str, tuple[str, ...]]]:
    """For any two kernels that differ: the two, with all that are like them, and the difference in words."""
    groups = classes(maps)
    pairs = [(old, new) for at, old in enumerate(groups) for new in groups[at + 1 :]]
    return [(_group(old), _group(new), difference(old[0], new[0])) for old, new in pairs]


def _group(maps: Sequence[Map]) -> str:
    like = f" (and alike {', '.join(one.name for one in maps[1:])})" if maps[1:] else ""
    return maps[0].name + like


def markdown(maps: Sequence[Map]) -> str:
    """The maps as GitHub tables: what is frozen, what each kernel does with CPUID, at large and leaf by leaf, then any
    two in words."""
    frozen = freeze_part(maps)
    parts = [f"# {TITLE}", *(freeze_markdown(frozen) if frozen else [])]
    parts += ["## Which bits of CPUID can be changed after KVM_RUN", _large(maps)]
    for leaf in leaves(maps):
        rows = [
            [
                ("**" if line.special else "") + plain(", ".join(line.names)) + ("**" if line.special else ""),
                *line.fates,
            ]
            for line in leaf.lines
        ]
        parts += [f"### {leaf.name}", as_table([["bits", *(one.name for one in maps)], *rows])]
    for old, new, lines in differences(maps):
        parts += [f"## From {plain(old)} to {plain(new)}", "\n".join(f"- {plain(line)}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def _large(maps: Sequence[Map]) -> str:
    rows = [["kernel", "release", "what it does", "kept by KVM", "flips alone", "guest afterwards"]]
    for one in maps:
        kept = outcomes(one.sweep)["ignored"] or "nothing"
        texts = (one.name, one.release, summary(one.sweep), kept, f"{one.sweep.seconds:.3f} s", one.guest)
        rows.append([plain(text) for text in texts])
    return as_table(rows)


def html(maps: Sequence[Map]) -> str:
    """The maps as one self-contained page."""
    return render(
        "sweep.html.j2",
        title=TITLE, frozen=freeze_part(maps), maps=maps, leaves=leaves(maps), differences=differences(maps),
        meanings=MEANINGS, summary=summary, outcomes=outcomes,
        letters={name: name[0].upper() if name != ABSENT else "·" for name in MEANINGS},
    )  # fmt: skip
