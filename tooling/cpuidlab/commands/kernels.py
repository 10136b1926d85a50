"""`cpuidlab kernels`: list the builds in the archive, the era predicted for each, and whether it can be used."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from cpuidlab.base.exit_codes import OK
from cpuidlab.judge import prediction
from cpuidlab.kernels import catalogue

BY_VERSION = "upstream version"


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
        yield asdict(row) | {"predicted": predicted.name, "predicted_by": predicted.basis, "why": predicted.why}


def _line(row: Mapping[str, Any]) -> str:
    state = row["lack"] or ("cached" if row["cached"] else "can be fetched")
    era, basis = row["predicted"], row["predicted_by"]
    why = "" if basis == BY_VERSION else f" (predicted by {basis}: {row['why']})"
    return f"{row['series']:6} {row['version']:24} {era:17} {basis:17} {row['suite']:20} {state}{why}"
