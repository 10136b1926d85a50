"""The command `cpuidlab compare`: print what changed between two matrices, and write a page with it."""

import os
import sys
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.base.exit_codes import BROKEN, OK
from cpuidlab.report import matrix_file
from cpuidlab.report.compare import Changes, compare
from cpuidlab.report.compare_text import comparison_of, text
from cpuidlab.report.page import html
from cpuidlab.report.report import Report, report_of
from cpuidlab.report.write import read_about


def main(old_path: Path, new_path: Path, page: Path | None = None) -> int:
    """Compare two matrices, each given as a file or as its job's folder, and print what changed.

    `page` is a file for the new matrix with what changed on it.
    Returns 1 where anything got worse, else 0. Raises UsageError where a file cannot be read or written.
    """
    old_path, new_path = matrix_file.file_of(old_path), matrix_file.file_of(new_path)
    old, new = matrix_file.read(old_path), matrix_file.read(new_path)
    changes = compare(old, new)
    if page:
        header, planned = read_about(new_path.parent)
        _write_page(page, report_of(new, header=header, planned=planned), new_path.parent, changes)
    sys.stdout.write(text(comparison_of(changes)) + "\n")
    return BROKEN if changes.worse else OK


def _write_page(page: Path, report: Report, folder: Path, changes: Changes) -> None:
    base = os.path.relpath(folder.resolve(), page.resolve().parent) + "/"
    content = html(report, folder=folder, base=base, changes=changes)
    try:
        page.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {page}: {error.strerror}") from error
