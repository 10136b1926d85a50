"""Merge the matrices of jobs that ran apart: one cell for each test at each place, a conflict where jobs disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cpuidlab.base.error_text import first_line
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell, Place, Row, seen_in_words
from cpuidlab.report.gist import gist
from cpuidlab.report.matrix import WEIGHT, grid, label, routed, routes_of
from cpuidlab.report.write import UNFINISHED

SHOWN = 5  # conflicts that the head of the page names


@dataclass(frozen=True)
class Job:
    """The matrix of one job, with what stands beside it. `name` is what the user called the job.

    The cells' evidence is relative to the folder of the merged matrix, or absolute.
    """

    name: str
    cells: tuple[Cell, ...]
    header: Mapping[str, str]
    planned: tuple[Place, ...]


@dataclass(frozen=True)
class Result:
    """The cell that one job has for one test at one place."""

    job: str
    cell: Cell


@dataclass(frozen=True)
class Merged:
    """All cells, a conflict among them as an ERROR, and how they came together.

    `alike` counts the cells that several jobs had with the same result. `conflicts` holds the different results of each
    other cell that several jobs had. `mixed` names the jobs of each release of a host that has more than one.
    """

    cells: tuple[Cell, ...]
    alike: int
    conflicts: tuple[tuple[Result, ...], ...]
    mixed: Mapping[str, Mapping[str, tuple[str, ...]]]
    header: Mapping[str, str]
    planned: tuple[Place, ...]

    @property
    def in_conflict(self) -> tuple[Cell, ...]:
        """The cells of the jobs, for which the merged matrix has an ERROR."""
        return tuple(result.cell for results in self.conflicts for result in results)


def merge(jobs: Sequence[Job]) -> Merged:
    """Merge the jobs. Of results that are alike the first job's is kept, and its reason tells where another job saw
    another end of a guest of which nothing is promised."""
    results = _by_place(jobs)
    conflicts = tuple(each for each in results if _differ(each))
    return Merged(
        cells=tuple(conflict_cell(each) if _differ(each) else _first(each) for each in results),
        alike=sum(len(each) > 1 for each in results) - len(conflicts),
        conflicts=conflicts,
        mixed=_mixed(jobs),
        header=_header(jobs, conflicts),
        planned=tuple(dict.fromkeys(place for job in jobs for place in job.planned)),
    )


def conflict_cell(results: Sequence[Result]) -> Cell:
    """Return an ERROR that tells all results: nobody knows which of them is the kernel's.

    The evidence is that of the weightiest result; the reason names the evidence of each.
    """
    weightiest = min((result.cell for result in results), key=lambda cell: WEIGHT[cell.verdict])
    lines = [f"{len(results)} jobs disagree: {'; '.join(_claims(results))}"]
    lines += [_detail(result) for result in results]
    return replace(weightiest, facts=None, verdict=Verdict.ERROR, reason="\n".join(lines))


def _first(results: Sequence[Result]) -> Cell:
    """Return the first job's result, and tell where the guest of another job ended in another way."""
    first = results[0].cell
    lines = [
        f"{result.job} saw another end of the guest, which nobody promises: {seen_in_words(result.cell)}"
        for result in results[1:]
        if gist(result.cell.facts) != gist(first.facts)
    ]
    return replace(first, reason="\n".join([first.reason, *lines])) if lines else first


def _by_place(jobs: Sequence[Job]) -> list[tuple[Result, ...]]:
    """Return the results for each test at each place, in the order in which the jobs have them."""
    routes = routes_of(cell for job in jobs for cell in job.cells)
    found: dict[tuple[Row, Place], list[Result]] = {}
    for job in jobs:
        cells = [routed(cell, routes) for cell in job.cells]
        weightiest = grid(cells).cells
        for place in dict.fromkeys(_place(cell) for cell in cells):
            found.setdefault(place, []).append(Result(job.name, weightiest[place]))
    return [tuple(results) for results in found.values()]


def _place(cell: Cell) -> tuple[Row, Place]:
    return (cell.case, cell.route), (cell.host, cell.paging)


def _key(cell: Cell) -> object:
    """Return what two results must share to be alike.

    Two tests that kept the same promises may have seen different ends of the guest: these were then no part of them.
    """
    told = gist(cell.facts)
    if told is not None and cell.verdict is Verdict.PASS:
        told = replace(told, guest=None)
    return cell.verdict, told


def _differ(results: Sequence[Result]) -> bool:
    return len({_key(result.cell) for result in results}) > 1


def _claims(results: Sequence[Result]) -> list[str]:
    """Say which jobs say what; jobs with the same result are named together."""
    alike: dict[object, list[Result]] = {}
    for result in results:
        alike.setdefault(_key(result.cell), []).append(result)
    claims = []
    for same in alike.values():
        jobs, cell = [result.job for result in same], same[0].cell
        verb = "says" if len(jobs) == 1 else "say"
        claims.append(f"{', '.join(jobs)} {verb} {cell.verdict} {seen_in_words(cell)}".rstrip())
    return claims


def _detail(result: Result) -> str:
    cell = result.cell
    parts = [cell.verdict, cell.release, cell.accel, first_line(cell.reason), cell.evidence]
    return f"{result.job}: {', '.join(part for part in parts if part)}"


def _mixed(jobs: Sequence[Job]) -> dict[str, dict[str, tuple[str, ...]]]:
    releases: dict[str, dict[str, dict[str, None]]] = {}
    for job in jobs:
        for cell in job.cells:
            if cell.release:
                releases.setdefault(cell.host, {}).setdefault(cell.release, {})[job.name] = None
    return {
        host: {release: tuple(names) for release, names in of_host.items()}
        for host, of_host in releases.items()
        if len(of_host) > 1
    }


def _header(jobs: Sequence[Job], conflicts: Sequence[Sequence[Result]]) -> dict[str, str]:
    """Join the heads of the jobs: each different value once. What was not run is told for each job."""
    heads = [{"jobs": ", ".join(job.name for job in jobs)}]
    if conflicts:
        heads.append({"conflicts": _conflicts_in_short([results[0].cell for results in conflicts])})
    for job in jobs:
        unfinished = {name: f"{job.name}: {value}" for name, value in job.header.items() if name == UNFINISHED}
        heads.append({**job.header, **unfinished})
    values: dict[str, dict[str, None]] = {}
    for head in heads:
        for name, value in head.items():
            values.setdefault(name, {})[value] = None
    return {name: "; ".join(different) for name, different in values.items()}


def _conflicts_in_short(cells: Sequence[Cell]) -> str:
    """Name the first cells in conflict, and count the others."""
    named = [f"{label((cell.case, cell.route))} on {cell.host} {cell.paging}" for cell in cells[:SHOWN]]
    more = [f"and {len(cells) - SHOWN} more"] if len(cells) > SHOWN else []
    return f"{len(cells)}, each an ERROR below: {', '.join(named + more)}"
