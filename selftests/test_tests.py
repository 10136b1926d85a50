"""The files of tests/: what they may import, and how far they may look."""

import ast
import sys
from pathlib import Path

import pytest
from cpuidlab import testing
from cpuidlab.base.paths import PROJECT

FILES = sorted((PROJECT / "tests").glob("*.py"))
# of the package's insides a test needs none of these
REACHED_THROUGH = {"rig", "hook", "qmp", "answers", "asked", "before", "notes", "readings", "course", "logs"}


def imported(tree: ast.Module) -> set[str]:
    """Names of modules, `module.name` for what comes from inside the package."""
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return modules | {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_test_imports_the_authors_module_and_the_standard_library_alone(path: Path) -> None:
    others = {
        name for name in imported(ast.parse(path.read_text())) if name.split(".")[0] not in sys.stdlib_module_names
    }
    assert others == {"cpuidlab.testing"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_test_reaches_through_nothing(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text()))
    reached = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert reached & REACHED_THROUGH == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_test_states_one_promise(path: Path) -> None:
    tests = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert tests
    for test in tests:
        calls = [call.func for call in test.decorator_list if isinstance(call, ast.Call)]
        assert [call.id for call in calls if isinstance(call, ast.Name)] == ["promise"], test.name
        assert ast.get_docstring(test), test.name


def test_the_authors_module_offers_what_tests_use_and_no_more() -> None:
    used = {
        alias.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "cpuidlab.testing"
        for alias in node.names
    }
    assert set(testing.__all__) == used
