"""Where each kernel stands: the era that its version predicts, the one a probe showed, the one that the tests saw."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.judge.eras import Era, eras
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell
from cpuidlab.report.gist import answer_of, errnos_of
from cpuidlab.report.promise_titles import question_of


@dataclass(frozen=True)
class Standing:
    """Three answers for one host; an empty one means that nobody learned it. `agreeing` of `asked` cells fit `seen`.

    `source` names the kind of rule that the prediction comes from; it is "none" where there is no prediction. `note`
    says in words what it means that the answers differ; empty where they agree.
    """

    host: str
    releases: tuple[str, ...]
    accels: tuple[str, ...]
    predicted: str
    source: str
    probed: str
    seen: str
    agreeing: int
    asked: int
    note: str

    @property
    def told(self) -> str:
        """What the tests saw, in words: where not every cell fits, how many do."""
        if not self.asked:
            return "not tested"
        count = f"{self.agreeing} of {self.asked} cells"
        return f"{self.seen or 'no known era'}, {count}" if self.agreeing < self.asked else self.seen

    @property
    def meaning(self) -> str:
        """What the three answers come to."""
        if self.note or not self.asked:
            return self.note
        if _era(self.predicted) is None:
            return "nothing is predicted that it could be held against"
        return "they agree" if self.agreeing == self.asked else "they agree, but not in every cell"

    @property
    def defect(self) -> bool:
        """Whether the era by version is one with a defect, and no probe or test says that it is another one."""
        found = _era(self.predicted)
        return found is not None and found.defect and self.probed in ("", self.predicted)


def standings(cells: Sequence[Cell], hosts: Sequence[str]) -> tuple[Standing, ...]:
    """Return one for each host, in their order."""
    return tuple(_standing(host, [cell for cell in cells if cell.host == host]) for host in hosts)


def _standing(host: str, cells: Sequence[Cell]) -> Standing:
    predicted, source, probed = (
        _several(getattr(cell, name) for cell in cells) for name in ("predicted", "predicted_by", "probed")
    )
    asked = [cell for cell in cells if _tells(cell)]
    seen, agreeing = _seen(asked, _era(predicted), _era(probed))
    return Standing(
        host=host,
        releases=tuple(dict.fromkeys(cell.release for cell in cells if cell.release)),
        accels=tuple(dict.fromkeys(cell.accel for cell in cells if cell.accel)),
        predicted=predicted,
        source=source or ("not recorded" if predicted else "none"),
        probed=probed,
        seen=seen.name if seen else "",
        agreeing=agreeing,
        asked=len(asked),
        note=_note(_era(predicted), _era(probed), seen),
    )


def _several(names: Iterable[str]) -> str:
    """What cells say, once; they say the same unless the paging modes differ."""
    return " / ".join(dict.fromkeys(name for name in names if name))


def _era(name: str) -> Era | None:
    return next((one for one in eras() if one.name == name), None)


def _tells(cell: Cell) -> bool:
    """Whether a cell tells one era from another: something was set on a vCPU that has run, and answered."""
    tested = cell.verdict not in (Verdict.ERROR, Verdict.SKIP) and answer_of(cell.facts) is not None
    return tested and question_of(cell.case) in ("same", "pending", "changed")


def _fits(cell: Cell, era: Era) -> bool:
    question = question_of(cell.case)
    due = {"same": era.identical, "pending": era.pending, "changed": era.changed}[question or "same"]
    if due != ACCEPTED:
        return answer_of(cell.facts) == "refused" and errnos_of(cell.facts) == (due,)
    return answer_of(cell.facts) == ("warned" if era.lines else "silent")


def _seen(cells: Sequence[Cell], predicted: Era | None, probed: Era | None) -> tuple[Era | None, int]:
    """The era that fits most cells; where several do the predicted one, else the probed one, else a sound one."""
    if not cells:
        return None, 0
    fitting = Counter({era: sum(_fits(cell, era) for cell in cells) for era in eras()})
    most = max(fitting.values())
    best = [era for era, count in fitting.items() if count == most]
    preferred = next((era for era in (predicted, probed) if era in best), None)
    return (preferred or min(best, key=lambda era: era.defect), most) if most else (None, 0)


def _note(predicted: Era | None, probed: Era | None, seen: Era | None) -> str:
    if predicted is None:
        return ""
    other = next((era for era in (seen, probed) if era is not None and era is not predicted), None)
    if other is None:
        return ""
    if other.later_than(predicted):
        return f"a backport: as {_where(other)} ({', '.join(other.commits_after(predicted))})"
    return f"as {_where(other)}, before {', '.join(other.ended_by())}"


def _where(era: Era) -> str:
    """The releases of an era's last range, for people."""
    last = era.releases[-1]
    return f"Linux from {last.text}" if last.until and any(last.start) else f"Linux {last.text}"
