"""A matrix as a report for KCIDB, the kernel CI's common database: schema 5 of kcidb-io.

Each kernel is a checkout with one build, each cell a test of it. KNOWN is a FAIL there, tied to an issue that says that
it is known; WARN is a PASS; a place that was not tested is a MISS.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cpuidlab.base.error_text import first_line
from cpuidlab.base.errors import UsageError
from cpuidlab.judge.verdict import Verdict
from cpuidlab.kernels import host_spec
from cpuidlab.report import matrix, matrix_file
from cpuidlab.report.cell import Cell, Place, Row, seen_in_words

VERSION = {"major": 5, "minor": 3}
ORIGIN = "kvm_cpuid_lab"
STATUSES = {
    Verdict.PASS: "PASS",
    Verdict.KNOWN: "FAIL",
    Verdict.WARN: "PASS",
    Verdict.FAIL: "FAIL",
    Verdict.SKIP: "SKIP",
    Verdict.ERROR: "ERROR",
}
UNTESTED = "MISS"
_EXCERPT = 16384  # characters, the schema's limit

Json = dict[str, object]


def export(file: Path, origin: str = ORIGIN) -> str:
    """The report on a matrix.json as JSON; its time counts as the time of the tests. Raises UsageError where the file
    is none or the origin is not a name that KCIDB takes."""
    if not re.fullmatch(r"[a-z0-9_]+", origin):
        raise UsageError(f"'{origin}' is no origin for KCIDB: it takes small letters, digits and underscores")
    cells = matrix_file.read(file)
    when = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    return json.dumps(report(cells, origin, when), indent=1)


def report(cells: Sequence[Cell], origin: str, when: datetime) -> Json:
    """The report as plain data."""
    releases = {cell.host: cell.release for cell in sorted(cells, key=lambda cell: bool(cell.release))}
    table = matrix.grid(cells)
    places = [(row, column) for column in table.columns for row in table.rows]
    known = [cell for cell in table.cells.values() if cell.verdict is Verdict.KNOWN]
    issues = {f"{origin}:{cell.case} {cell.predicted}": cell for cell in known}
    return {
        "version": VERSION,
        "checkouts": [_checkout(origin, host, release) for host, release in releases.items()],
        "builds": [_build(origin, host, release) for host, release in releases.items()],
        "tests": [
            {"build_id": _build_id(origin, at[0], releases[at[0]])} | _test(origin, when, row, at, table.find(row, at))
            for row, at in places
        ],
        "issues": [_issue(origin, name, cell) for name, cell in issues.items()],
        "incidents": [_incident(origin, when, cell) for cell in known],
    }


def _checkout(origin: str, host: str, release: str) -> Json:
    name = _build_id(origin, host, release)
    tree = "own" if host.partition(":")[0] in host_spec.OWN else "debian"
    return {"id": name, "origin": origin, "tree_name": tree, "git_commit_name": release, "comment": host}


def _build(origin: str, host: str, release: str) -> Json:
    name = _build_id(origin, host, release)
    return {"checkout_id": name, "id": name, "origin": origin, "architecture": "x86_64", "comment": host}


def _test(origin: str, when: datetime, row: Row, place: Place, cell: Cell | None) -> Json:
    (case, route), (host, paging) = row, place
    test: Json = {
        "id": _test_id(origin, when, row, place),
        "origin": origin,
        "path": "kvm_cpuid_lab." + ".".join(re.sub(r"[^\w-]", "_", part, flags=re.ASCII) for part in case.split("/")),
        "status": STATUSES[cell.verdict] if cell else UNTESTED,
        "start_time": when.isoformat(),
        "misc": {"host": host, "paging": paging, "route": route},
    }
    if cell is None:
        return test
    text = cell.reason.replace("\0", "")
    seen = {
        "verdict": cell.verdict,
        "predicted": cell.predicted,
        "predicted_by": cell.predicted_by,
        "probed": cell.probed,
        "observed": seen_in_words(cell),
    }
    return test | {
        "comment": first_line(text),
        "log_excerpt": text[:_EXCERPT],
        "environment": {"comment": f"{paging} paging, accelerator {cell.accel}"},
        "misc": {"host": host, "paging": paging, "route": route} | seen,
    }


def _issue(origin: str, name: str, cell: Cell) -> Json:
    text = first_line(cell.reason.replace("\0", ""))
    return {"id": name, "version": 1, "origin": origin, "culprit": {"code": True}, "comment": text}


def _incident(origin: str, when: datetime, cell: Cell) -> Json:
    test = _test_id(origin, when, (cell.case, cell.route), (cell.host, cell.paging))
    issue = {"issue_id": f"{origin}:{cell.case} {cell.predicted}", "issue_version": 1, "present": True}
    return {"id": test, "origin": origin, "test_id": test} | issue


def _build_id(origin: str, host: str, release: str) -> str:
    return f"{origin}:{host} {release}"


def _test_id(origin: str, when: datetime, row: Row, place: Place) -> str:
    """Unique in all runs of an origin."""
    return f"{origin}:{when:%Y%m%dT%H%M%S} {' '.join((*place, *row))}"
