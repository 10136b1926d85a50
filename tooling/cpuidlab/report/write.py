"""Write the files of a matrix, and read back what stands beside matrix.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.report.markdown import markdown
from cpuidlab.report.matrix import Cell, Place, write
from cpuidlab.report.page import html

UNFINISHED = "not run"  # in the header, where a job was cut short
ABOUT = "matrix-header.json"  # what the page shows and matrix.json has no place for


def write_all(
    cells: Sequence[Cell], folder: Path, *, header: Mapping[str, str] | None = None, planned: Sequence[Place] = ()
) -> None:
    """Write matrix.json, matrix.md and matrix.html; what is `planned` is shown, tested or not."""
    write(cells, folder / "matrix.json")
    (folder / ABOUT).write_text(json.dumps({"header": dict(header or {}), "planned": list(planned)}, indent=1) + "\n")
    (folder / "matrix.md").write_text(markdown(cells, header=header, planned=planned), encoding="utf-8")
    page = html(cells, header=header, planned=planned, folder=folder)
    (folder / "matrix.html").write_text(page, encoding="utf-8")


def read_about(folder: Path) -> tuple[dict[str, str], list[Place]]:
    """The header and the plan that `write_all` left; nothing where they are not there, UsageError where garbled."""
    try:
        data = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        header = {str(name): str(value) for name, value in data["header"].items()}
        return header, [(str(host), str(paging)) for host, paging in data["planned"]]
    except OSError:
        return {}, []
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(f"{folder / ABOUT} is garbled: {type(error).__name__} {error}") from error
