"""`cpuidlab kernels`: list the builds in the archive, the era predicted for each, and whether it can be used."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from cpuidlab.base.exit_codes import OK
from cpuidlab.judge import prediction
from cpuidlab.kernels import catalogue

BY_VERSION = "the version"


def main(refresh: bool, eras: str, as_json: bool) -> int:
    """Print the list; UsageError where `eras`, a table of the user's, cannot be read."""
    rows = list(_rows(refresh, eras))
    if as_json:
        print(json.dumps({"kernels": rows}, indent=2))
    else:
        print("".join(f"{_line(row)}\n" for row in rows), end="")
    return OK


def _rows(refresh: bool, eras: str) -> Iterator[dict[str, Any]]:
    for row in catalogue.catalogue(refresh):
        predicted = prediction.of_release(row.release, row.version, eras)
        yield asdict(row) | {"predicted": predicted.era.name, "predicted_by": predicted.source or BY_VERSION}


def _line(row: Mapping[str, Any]) -> str:
    state = row["lack"] or ("cached" if row["cached"] else "can be fetched")
    by = "" if row["predicted_by"] == BY_VERSION else f" (predicted by {row['predicted_by']})"
    return f"{row['series']:6} {row['version']:24} {row['predicted']:17} {row['suite']:20} {state}{by}"
