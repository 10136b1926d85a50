"""One test's cell of the matrix, from the test that writes it into its evidence folder to the job that collects it."""

import re
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.report import matrix_file
from cpuidlab.report.cell import Cell

CELL_FILE = "cell.json"  # a matrix.json with one cell
_TEST = re.compile(r"(?:.*/)?(?P<file>[^/]+?)(?:\.py)?(?::(?:\w+\.)?(?P<method>\w+))?")


def write_cell(cell: Cell, folder: Path) -> None:
    """Put the cell among the test's evidence; a test does this before it tells Avocado its result."""
    matrix_file.write([cell], folder / CELL_FILE)


def read_cell(folder: Path) -> Cell | None:
    """The cell that a test wrote; None where it wrote none. Raises UsageError where it is not whole."""
    if not (folder / CELL_FILE).exists():
        return None
    cells = matrix_file.read(folder / CELL_FILE)
    if len(cells) != 1:
        raise UsageError(f"{folder / CELL_FILE} should hold one cell, it holds {len(cells)}")
    return cells[0]


def case_of(test: str) -> str:
    """The name of the case of a test that wrote none, from FILE:CLASS.METHOD: `after_run/identical`."""
    found = _TEST.fullmatch(test)
    if not found:
        return test
    parts = (part.removeprefix("test_") for part in found.groups(default=""))
    return "/".join(part for part in parts if part)
