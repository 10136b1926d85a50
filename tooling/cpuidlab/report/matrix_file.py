"""Write a matrix.json, and read one of this schema or of the one before. A file may come from anywhere."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cpuidlab.base.errors import UsageError
from cpuidlab.experiment.facts import Facts
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report import facts_json
from cpuidlab.report.cell import Cell, seen_in_words
from cpuidlab.report.schema1 import facts_of_words

NAME = "matrix.json"
SCHEMA = 2
_KEYS = {
    1: ("case", "host", "release", "paging", "route", "accel", "predicted", "probed",
        "observed", "verdict", "reason", "evidence"),
    2: ("case", "host", "release", "paging", "route", "accel", "predicted", "predicted_by", "probed",
        "facts", "observed", "verdict", "reason", "evidence"),
}  # fmt: skip
_ADDED = {1: set[str](), 2: {"predicted_by"}}  # keys that older files of the same schema lack
_HALF = re.compile("[\ud800-\udfff]")  # JSON can hold half a character; no file and no terminal takes one


def file_of(path: Path) -> Path:
    """Return the matrix of a job's folder, or the file itself.

    A link such as `latest` is followed, because it leads elsewhere after the next job.
    """
    return (path / NAME if path.is_dir() else path).resolve()


def write(cells: Sequence[Cell], path: Path) -> None:
    """Write a matrix.json that `read` reads back."""
    path.write_text(json.dumps({"schema": SCHEMA, "cells": [_data(cell) for cell in cells]}, indent=1) + "\n")


def read(path: Path) -> tuple[Cell, ...]:
    """Return the cells of a matrix.json. Raises UsageError where the file is missing or is something else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict) or set(data) != {"schema", "cells"} or not isinstance(data["cells"], list):
        raise UsageError(f"{path} is no matrix.json: it should have 'schema' and 'cells', and nothing else")
    schema = data["schema"]
    if type(schema) is not int or schema not in _KEYS:
        raise UsageError(f"{path} has schema {schema!r}; this version reads schema {' and '.join(map(str, _KEYS))}")
    return tuple(_cell(raw, schema, f"{path}: cell {number}") for number, raw in enumerate(data["cells"], start=1))


def _data(cell: Cell) -> dict[str, Any]:
    """Return a cell as plain data. The words of `observed` are for people: nothing reads them back."""
    values = asdict(cell) | {"facts": facts_json.to_data(cell.facts), "observed": seen_in_words(cell)}
    return {key: values[key] for key in _KEYS[SCHEMA]}


def _cell(raw: object, schema: int, where: str) -> Cell:
    if not isinstance(raw, dict) or {*raw, *_ADDED[schema]} != set(_KEYS[schema]):
        raise UsageError(f"{where} should have just these keys: {', '.join(_KEYS[schema])}")
    texts = {key: value for key, value in raw.items() if key != "facts"}
    if not all(isinstance(value, str) for value in texts.values()):
        raise UsageError(f"{where} has a value that is no string")
    if any(_HALF.search(value) for value in texts.values()):
        raise UsageError(f"{where} has a value that is no text: half of a surrogate pair")
    if raw["verdict"] not in list(Verdict):
        raise UsageError(f"{where} has the verdict {raw['verdict']!r}; known: {', '.join(Verdict)}")
    words = texts.pop("observed")
    try:
        facts = facts_of_words(words) if schema == 1 else _facts(raw["facts"])
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    return Cell(**{**texts, "verdict": Verdict(raw["verdict"]), "facts": facts})


def _facts(raw: object) -> Facts | None:
    facts = facts_json.from_data(raw)
    if facts and _HALF.search(facts.ended):
        raise ValueError("'ended' is no text: half of a surrogate pair")
    return facts
