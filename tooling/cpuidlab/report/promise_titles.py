"""The promises as a reader meets them: their groups (tooling/promises.toml), and their words out of the tests."""

import ast
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from cpuidlab.base.paths import PROJECT, TOOLING

Question = Literal["before", "nested", "takeover", "same", "pending", "changed"]


@dataclass(frozen=True)
class Group:
    """The tests of one file: `stem` names it, `questions` says which question a test's name answers."""

    stem: str
    title: str
    order: int
    questions: Mapping[str, Question] = field(compare=False)

    @property
    def rank(self) -> tuple[int, str]:
        """What groups are sorted by; those that the table lacks share an order."""
        return self.order, self.stem


@cache
def groups() -> dict[str, Group]:
    """Every group of the table, by its stem."""
    table = tomllib.loads((TOOLING / "promises.toml").read_text(encoding="utf-8"))
    return {
        row["stem"]: Group(
            row["stem"],
            row["title"],
            order,
            {test: question for question in get_args(Question) for test in row.get(question, ())},
        )
        for order, row in enumerate(table["group"])
    }


def group_of(case: str) -> Group:
    """The group of a case, such as `after_run/identical`; one that the table lacks comes last, as it is called."""
    stem = case.partition("/")[0]
    return groups().get(stem) or Group(stem, stem.replace("_", " "), len(groups()), {})


def question_of(case: str) -> Question | None:
    """Which question of a VMM's author a case answers."""
    questions = group_of(case).questions
    return questions.get(case.partition("/")[2]) or questions.get("*")


def title_of(case: str) -> str:
    """What a case is called in its group."""
    stem, _, test = case.partition("/")
    return (test or stem).replace("_", " ")


def words_of(case: str) -> str:
    """What a case promises, in the words of its test; empty where there is no such test."""
    stem, _, test = case.partition("/")
    return _docstrings(stem).get(test, "")


@cache
def _docstrings(stem: str) -> dict[str, str]:
    """Test name -> docstring, for one test file; its code is read, not run."""
    names = [PROJECT / "tests" / f"test_{stem}.py"] if stem.isidentifier() else []
    return {
        node.name.removeprefix("test_"): " ".join((ast.get_docstring(node) or "").split())
        for node in (node for path in names if path.is_file() for node in ast.walk(_parsed(path)))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
