"""Describe a kernel that is ready to boot, wherever it came from."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kernel:
    """A kernel ready to boot. `label` names it to people, `release` is what `uname -r` prints.

    `version` starts with Linux X.Y.Z: it is the package version, or what the kernel's banner says. `suite` is empty for
    a kernel of the user's own. `modules` is the folder lib/modules/RELEASE, with modules.dep. `digest` changes with the
    content; `patch` names the patch that KVM was rebuilt with.
    """

    spec: str
    label: str
    release: str
    version: str
    suite: str
    vmlinuz: Path
    modules: Path
    digest: str
    patch: str | None = None


def write_facts(folder: Path, release: str, version: str, suite: str = "") -> None:
    """Keep in a kernel's folder of the cache what its packages say of it."""
    (folder / "kernel.json").write_text(json.dumps({"release": release, "version": version, "suite": suite}))


def read_kernel(folder: Path, spec: str = "", label: str = "") -> Kernel:
    """Return the kernel in a folder of the cache; FileNotFoundError or NotADirectoryError where there is none."""
    facts = json.loads((folder / "kernel.json").read_text())
    modules = folder / "lib/modules" / facts["release"]
    return Kernel(spec, label, **facts, vmlinuz=folder / "vmlinuz", modules=modules, digest=folder.name)
