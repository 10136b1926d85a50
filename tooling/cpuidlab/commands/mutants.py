"""The mutants: KVM with one fault each, as patches in tooling/mutants/ whose heads say what breaks and who notices.

`Breaks` is the broken promise, `Host` the kernel it is written for (5.10+warning: on top of that patch), `Killers` the
tests expected to fail, the likeliest first, one a line with its paging mode. `Equivalent` argues why no test can.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import PROJECT, TOOLING
from cpuidlab.kernels import host_spec, patches
from cpuidlab.kernels.version import upstream
from cpuidlab.rig.host_config import PAGINGS

FOLDER = TOOLING / "mutants"
SUITE = "tests"
HEADERS = {"Breaks", "Host", "Killers", "Equivalent"}


@dataclass(frozen=True)
class Killer:
    """A test expected to notice, as `test_file.py:Class.test`, and the paging mode in which it does."""

    paging: str
    test: str


@dataclass(frozen=True)
class Mutant:
    """One fault; `host` is the unmutated host, `equivalent` the argument why nobody can notice, if there is one."""

    name: str
    path: Path
    host: str
    breaks: str
    killers: tuple[Killer, ...]
    equivalent: str | None

    @property
    def at(self) -> str:
        """The host spec of the mutated kernel, from any folder."""
        return f"{host_spec.parse(self.host).base}+{self.path}"

    @property
    def spec(self) -> str:
        """The same from the project's folder, short enough to be read."""
        path = self.path.relative_to(PROJECT) if self.path.is_relative_to(PROJECT) else self.path
        return f"{host_spec.parse(self.host).base}+{path}"


def shipped(names: Sequence[str] = ()) -> tuple[Mutant, ...]:
    """The project's mutants, host by host; with `names` just these. UsageError where a name is not one of them."""
    known = {path.stem: path for path in FOLDER.glob("*.patch")}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"there is no mutant named '{unknown[0]}'; 'cpuidlab mutants --list' shows them")
    found = [read(known[name]) for name in dict.fromkeys(names or sorted(known))]
    return tuple(sorted(found, key=lambda mutant: upstream(mutant.host)))


def read(path: Path) -> Mutant:
    """The mutant in a patch file; UsageError that says what is wrong with its head."""
    head = patches.head(path)
    lacking = [name for name in ("Breaks", "Host", "Killers") if name not in head]
    if lacking:
        raise UsageError(f"{path}: its head lacks '{lacking[0]}:'")
    texts = {name: " ".join(head[name].split()) for name in HEADERS if name in head}
    host_spec.parse(texts["Host"])
    killers = tuple(_killer(line.strip(), path) for line in head["Killers"].splitlines() if line.strip())
    return Mutant(path.stem, path, texts["Host"], texts["Breaks"], killers, texts.get("Equivalent"))


def locate(test: str) -> str:
    """Where the test lies, for Avocado: its reference with the folder; UsageError where that has no such file."""
    file = test.partition(":")[0]
    if not (PROJECT / SUITE / file).is_file():
        raise UsageError(f"there is no {file} in {SUITE}")
    return f"{SUITE}/{test}"


def whole_suite() -> tuple[str, ...]:
    """All tests, for Avocado."""
    return (f"{SUITE}/",)


def _killer(line: str, path: Path) -> Killer:
    paging, _, test = line.partition(" ")
    if paging not in PAGINGS or ".py:" not in test:
        raise UsageError(f"{path}: a killer is 'npt test_file.py:Class.test' or 'shadow ...', not '{line}'")
    return Killer(paging, test.strip())
