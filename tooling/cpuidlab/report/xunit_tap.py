"""The lab's verdicts in Avocado's own xunit and TAP: these know no KNOWN, and a WARN is a plain pass to them.

Avocado's words stay as they are. Each xunit test case is given the properties `verdict` and `reason`, and each TAP line
ends with the verdict as a comment.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from cpuidlab.base.atomic import write_atomically
from cpuidlab.base.error_text import first_line
from cpuidlab.report.cell import Cell

_TAP = re.compile(r"(?:not )?ok \d+ _?(?P<name>\S+)")
_UNPRINTABLE = re.compile(r"[^\t\n -\ud7ff\ue000-\ufffd]")


def annotate(job: Path, cells: Mapping[str, Cell]) -> None:
    """Write the verdicts into a job's results.xml and results.tap, where there are any; `cells` by TEST;VARIANT."""
    for name, change in (("results.xml", _xunit), ("results.tap", _tap)):
        file = job / name
        if file.exists():
            write_atomically(file, change(file.read_text(), cells))


def _xunit(text: str, cells: Mapping[str, Cell]) -> str:
    suite = ElementTree.fromstring(text)  # noqa: S314  Avocado has written it just now
    for case in suite.iter("testcase"):
        cell = cells.get(case.get("name", ""))
        if cell:
            properties = ElementTree.Element("properties")
            for name, value in (("verdict", str(cell.verdict)), ("reason", cell.reason)):
                ElementTree.SubElement(properties, "property", name=name, value=_UNPRINTABLE.sub("?", value))
            case.insert(0, properties)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _tap(text: str, cells: Mapping[str, Cell]) -> str:
    return "".join(f"{line}{_comment(line, cells)}\n" for line in text.splitlines())


def _comment(line: str, cells: Mapping[str, Cell]) -> str:
    found = _TAP.match(line)
    cell = cells.get(found["name"]) if found else None
    if cell is None or "# SKIP" in line:  # a directive, with the reason behind it
        return ""
    first = _UNPRINTABLE.sub("?", first_line(cell.reason))
    return f"  # {cell.verdict}: {' '.join(first.split())}"
