"""C programs and libraries of our own, compiled once and kept in the cache."""

from collections.abc import Sequence
from pathlib import Path

from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import file_digest, made
from cpuidlab.base.command import run

COMPILED = Kind("compiled", cost=50)  # with the rigs: another compiler would change the programs in the images


def compiled(name: str, sources: Sequence[Path], *flags: str) -> Path:
    """Return the program or library `name` that gcc makes of `sources`, their headers among them."""

    def compile_it(folder: Path) -> None:
        files = [str(source) for source in sources if source.suffix != ".h"]
        run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(folder / name), *files, *flags], seconds=60)

    inputs = {"source": " ".join(file_digest(source) for source in sources), "flags": " ".join(flags)}
    return made(COMPILED, Path(name).stem, inputs, compile_it) / name
