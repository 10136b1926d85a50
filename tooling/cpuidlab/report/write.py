"""Write the files of a matrix, and read what stands beside matrix.json."""

import json
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.report import matrix_file
from cpuidlab.report.cell import Place
from cpuidlab.report.markdown import markdown
from cpuidlab.report.page import html
from cpuidlab.report.report import Report

UNFINISHED = "not run"  # in the header, where a job was cut short
ABOUT = "matrix-header.json"  # what the page shows and matrix.json has no place for


def write_all(report: Report, folder: Path, into: Path | None = None) -> None:
    """Write matrix.json, matrix.md, matrix.html and the header's file.

    `folder` is the job's, which the evidence is relative to; the files go there, or `into` another folder.
    """
    into = into or folder
    matrix_file.write(report.cells, into / "matrix.json")
    about = {"header": dict(report.header), "planned": report.planned}
    (into / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    (into / "matrix.md").write_text(markdown(report), encoding="utf-8")
    (into / "matrix.html").write_text(html(report, folder=folder), encoding="utf-8")


def read_about(folder: Path) -> tuple[dict[str, str], list[Place]]:
    """Return the header and the plan that `write_all` left; both are empty where there is no such file.

    Raises UsageError where the file is garbled.
    """
    try:
        data = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        header = {str(name): str(value) for name, value in data["header"].items()}
        return header, [(str(host), str(paging)) for host, paging in data["planned"]]
    except OSError:
        return {}, []
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(f"{folder / ABOUT} is garbled: {type(error).__name__} {error}") from error
