"""The freeze maps of several kernels side by side: one column for all kernels that freeze the same."""

from collections.abc import Sequence
from dataclasses import dataclass

from cpuidlab.experiment.freeze_table import PHASES, calls
from cpuidlab.judge.freeze_rules import msr_name, rules
from cpuidlab.report.freeze_text import (
    ABSENT,
    answers_of,
    call_text,
    difference,
    disagreements,
    msr_text,
    msr_title,
)
from cpuidlab.report.markdown_table import as_table, plain
from cpuidlab.report.sweep_map import Map

READING = (
    f"Three answers are those before the first vCPU, before its first KVM_RUN, and after it ({' / '.join(PHASES)})."
)
AGREED = "Every kernel answers as the table says for its version."


@dataclass(frozen=True)
class FreezeRow:
    """One call or MSR, what each column says of it, and the commits that changed its rule."""

    text: str
    cells: tuple[str, ...]
    commits: str

    @property
    def special(self) -> bool:
        """Whether something is frozen somewhere."""
        return any(" / " in cell or cell.startswith("frozen") for cell in self.cells)


@dataclass(frozen=True)
class FreezePart:
    """The freeze part of a page: the columns' names, the rows, and where kernels do not answer as the table says."""

    columns: tuple[str, ...]
    rows: tuple[FreezeRow, ...]
    disagreements: tuple[tuple[str, tuple[str, ...]], ...]


def freeze_part(maps: Sequence[Map]) -> FreezePart | None:
    """Put the maps together; None where none of them has a freeze part."""
    known = [one for one in maps if one.freeze]
    if not known:
        return None
    groups = _groups(known)
    first = [group[0] for group in groups]
    rows = [
        FreezeRow(call.text, tuple(call_text(answers_of(one, call.name)) for one in first), _commits(call.name))
        for call in calls().values()
    ]
    indexes = sorted({msr.index for one in first if one.freeze for msr in one.freeze.msrs})
    rows += [
        FreezeRow(msr_title(index), tuple(_msr_cell(one, index) for one in first), _commits(msr_name(index)))
        for index in indexes
    ]
    wrong = [(_column(group, known), tuple(disagreements(group[0]))) for group in groups]
    return FreezePart(
        tuple(_column(group, known) for group in groups), tuple(rows), tuple(pair for pair in wrong if pair[1])
    )


def freeze_markdown(part: FreezePart) -> list[str]:
    """The part as paragraphs of Markdown."""
    head = ["call or feature MSR", *map(plain, part.columns), "rule changed by"]
    rows = [[_bold(row), *map(plain, row.cells), plain(row.commits)] for row in part.rows]
    lines = [f"- {plain(column)}: {plain(line)}" for column, texts in part.disagreements for line in texts]
    return [
        "## What the first vCPU and the first KVM_RUN freeze",
        READING,
        as_table([head, *rows]),
        "\n".join(["Not as the table says:", "", *lines]) if lines else AGREED,
    ]


def _bold(row: FreezeRow) -> str:
    return f"**{plain(row.text)}**" if row.special else plain(row.text)


def _groups(maps: Sequence[Map]) -> list[list[Map]]:
    """The maps put together that freeze the same and agree with the table alike."""
    found: list[list[Map]] = []
    for one in maps:
        same = [group for group in found if not difference(group[0], one)]
        match = next((group for group in same if disagreements(group[0]) == disagreements(one)), None)
        if match is None:
            found.append([one])
        else:
            match.append(one)
    return found


def _column(group: Sequence[Map], maps: Sequence[Map]) -> str:
    """The names of a group's kernels, without the paging mode where all modes of a kernel are in the group."""
    names = []
    for one in group:
        whole = all(each in group for each in maps if each.host == one.host)
        names.append(one.host if whole else one.name)
    return ", ".join(dict.fromkeys(names))


def _msr_cell(one: Map, index: int) -> str:
    msrs = {msr.index: msr for msr in one.freeze.msrs} if one.freeze else {}
    return msr_text(msrs[index]) if index in msrs else ABSENT


def _commits(name: str) -> str:
    return ", ".join(dict.fromkeys(commit for rule in rules(name)[1:] for commit in rule.commits))
