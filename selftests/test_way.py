"""The rooms stand in the order of the data; no import runs against it, and no two modules import each other.

What several selftests share lies in selftests/fakes and conftest.py: no test file imports from another.
"""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from cpuidlab.base.paths import PROJECT, TOOLING

PACKAGE = TOOLING / "cpuidlab"
ROOMS = ["base", "kvm", "kernels", "rig", "experiment", "judge", "report", "avocado_plugin", "testing", "commands"]


def module_of(path: Path) -> tuple[str, ...]:
    return ("cpuidlab", *path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the modules that a file imports: at its top, inside functions, for type checkers alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            found = [(*(node.module or "").split("."), alias.name) for alias in node.names]
        else:
            continue
        yield from (parts if parts in MODULES else parts[:-1] for parts in found if parts[0] == "cpuidlab")


IMPORTS = {module: set(imported(path)) for module, path in MODULES.items()}


def test_every_import_names_a_module_in_a_room() -> None:
    assert not [(one, other) for one, others in IMPORTS.items() for other in others if other not in MODULES]
    assert {module[1] for module in MODULES} <= set(ROOMS)


def test_no_import_runs_against_the_way() -> None:
    against = [
        f"{'.'.join(one)} imports {'.'.join(other)}"
        for one, others in IMPORTS.items()
        for other in others
        if ROOMS.index(one[1]) < ROOMS.index(other[1])
    ]
    assert against == []


def test_no_circle() -> None:
    TopologicalSorter(IMPORTS).prepare()  # CycleError names the modules


def test_no_selftest_imports_from_another_test_file() -> None:
    offenders = []
    for path in (PROJECT / "selftests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            offenders += [f"{path.name}: {name}" for name in names if name.rpartition(".")[2].startswith("test_")]
    assert offenders == []
