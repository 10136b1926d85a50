"""A host's setup without a kernel: what the plan of a job and its results look at."""

from types import SimpleNamespace
from typing import Any


def fake_setup(spec: str, paging: str, accel: str = "tcg", *, digest: str = "") -> Any:
    label = {"newest": "7.3"}.get(spec, spec)
    version = label.partition("+")[0]
    kernel = SimpleNamespace(
        label=label, release=f"{version}.0-amd64", digest=digest or label, spec=version, version=version, suite=""
    )
    guest = SimpleNamespace(release="6.1.0-amd64")
    return SimpleNamespace(
        kernel=kernel,
        paging=paging,
        name=f"{label}-{paging}" if accel == "tcg" else f"{label}-{paging}-{accel}",
        column=label if accel == "tcg" else f"{label}-{accel}",
        accel=accel,
        guest_kernel=guest,
        boot=None,
        boots_guests=False,
        patience=1.0,
    )
