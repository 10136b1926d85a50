"""All that the writers of a matrix show, computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpuidlab.report.cell import Cell, Place, Row
from cpuidlab.report.host_era import Standing, standings
from cpuidlab.report.matrix import Grid, by_group, grid, remarkable
from cpuidlab.report.outcome import legend
from cpuidlab.report.promise_titles import Group
from cpuidlab.report.summary import summary
from cpuidlab.report.vmm_advice import Advice, Rule, advice, leads


@dataclass(frozen=True)
class Report:
    """The cells of a matrix, and what follows from them.

    `header` and `planned` come from the job: what stands above the matrix, and the places that were to be tested.
    `leads` has the hosts of each rule, `remarkable` the cells that are no plain PASS, the weightiest first.
    """

    cells: tuple[Cell, ...]
    header: Mapping[str, str]
    planned: tuple[Place, ...]
    grid: Grid
    groups: Mapping[Group, tuple[Row, ...]]
    summary: str
    legend: str
    standings: tuple[Standing, ...]
    advice: tuple[Advice, ...]
    leads: Mapping[Rule, tuple[str, ...]]
    remarkable: tuple[Cell, ...]


def report_of(
    cells: Sequence[Cell], *, header: Mapping[str, str] | None = None, planned: Sequence[Place] = ()
) -> Report:
    """Compute the report; a planned place has its column even where nothing was tested."""
    table = grid(cells, planned)
    each_host = standings(cells, table.hosts)
    advised = advice(cells, each_host)
    return Report(
        cells=tuple(cells),
        header=header or {},
        planned=tuple(planned),
        grid=table,
        groups=by_group(table),
        summary=summary(cells, table),
        legend=legend(table),
        standings=each_host,
        advice=advised,
        leads=leads(advised),
        remarkable=remarkable(cells),
    )
