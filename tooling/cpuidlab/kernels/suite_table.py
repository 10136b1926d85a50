"""Read a table of suites: tooling/kernels.toml, or one of the user's own. Its head explains the keys."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpuidlab.base.errors import UsageError
from cpuidlab.kernels.mirrors import VARIABLES
from cpuidlab.kernels.suite import Suite

# What `*` in the name of a package stands for: X.Y.Z, and parts that begin with a digit. So linux-image-*-amd64 does
# not stand for linux-image-6.1.0-50-cloud-amd64.
STAR = r"\d+\.\d+\.\d+[^\s-]*(?:-(?:\d|rc\d|trunk)[^\s-]*)*"


@dataclass(frozen=True)
class Layout:
    """How a kernel is split into packages. `*` in their names stands for the release without its flavour.

    `star` is a regular expression for the `*` of the first package.
    """

    packages: tuple[str, ...]
    star: str = STAR

    @property
    def pattern(self) -> re.Pattern[str]:
        """Return a pattern for the name of the layout's first package, with the release as its group."""
        prefix, _, suffix = self.packages[0].partition("*")
        return re.compile(re.escape(prefix) + f"({self.star}{re.escape(suffix)})")

    def names(self, release: str) -> tuple[str, ...]:
        """Return the names of the packages of a release."""
        flavour = self.packages[0].partition("*")[2]
        return tuple(name.replace("*", release.removesuffix(flavour)) for name in self.packages)


@dataclass(frozen=True)
class SuiteRow:
    """One suite of the catalogue; a `rolling` one is searched for each series that no other suite names."""

    suite: Suite
    series: tuple[str, ...]
    rolling: bool
    layouts: tuple[Layout, ...] = ()


def rows(data: Mapping[str, Any], layouts: Sequence[Layout], file: Path, own: bool = False) -> tuple[SuiteRow, ...]:
    """Return the suites that a file's `data` names; `layouts` are for those that name no packages of their own.

    `own` tells that the file is the user's. Raises UsageError that names the file, the suite and the key.
    """
    tables = data.get("suites", [])
    if not _is_list_of(tables, lambda table: isinstance(table, dict)):
        raise UsageError(f"{file}: suites should be tables, each with the head [[suites]]")
    made = tuple(_row(table, layouts, file, own, number) for number, table in enumerate(tables, start=1))
    check_names([row.suite.name for row in made], file)
    return made


def check_names(names: Sequence[str], file: Path) -> None:
    """Raise UsageError for a name that stands there twice: it names a suite in hosts' results and in the cache."""
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{file}: [[suites]] {name}: name: another suite has this name")


def _row(table: Mapping[str, Any], layouts: Sequence[Layout], file: Path, own: bool, number: int) -> SuiteRow:
    for key, what in _wrong(table):
        raise UsageError(f"{file}: [[suites]] {_told(table, number)}: {key}: {what}")
    packages = tuple(table.get("packages", ()))
    keyring = table.get("keyring")
    suite = Suite(
        table["name"], table.get("archive", "main"), table.get("ended", False), table.get("suite", table["name"]),
        table.get("component", "main"), table.get("mirror", "").rstrip("/"),
        _keyring(keyring, file, table["name"]) if keyring else None,
        tuple({f"{name.partition('-')[0]}-": None for name in packages} | {"linux-": None}), str(file) if own else "",
    )  # fmt: skip
    return SuiteRow(
        suite, tuple(table.get("series", ())), table.get("rolling", False),
        (Layout(packages),) if packages else tuple(layouts),
    )  # fmt: skip


def _told(table: Mapping[str, Any], number: int) -> str:
    """Return the name of a table, or its number where the name is no good."""
    name = table.get("name")
    return name if isinstance(name, str) and _WORD.fullmatch(name) else f"number {number}"


def _wrong(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each key that is wrong in a table, and what is wrong with it."""
    for key, value in table.items():
        if key not in _KEYS:
            yield key, f"there is no such key; known: {', '.join(_KEYS)}"
        elif not _KEYS[key][0](value):
            yield key, f"{value!r} should be {_KEYS[key][1]}"
    if "name" not in table:
        yield "name", "is missing"
    if not table.get("series") and not table.get("rolling"):
        yield "series", 'is missing: the series to look for in this suite, such as ["5.15"]'
    if "archive" in table and "mirror" in table:
        yield "archive", "names one of this machine's own mirrors, so it cannot stand beside mirror"


def _keyring(text: str, file: Path, name: str) -> Path:
    """Return the path of a keyring; what is relative counts from the table's folder."""
    path = file.parent / Path(text).expanduser()
    if not path.is_file():
        raise UsageError(
            f"{file}: [[suites]] {name}: keyring: there is no file {path}; install the package with the archive's keys"
        )
    return path


def _is_list_of(value: object, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(fits, value))


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


_WORD = re.compile(r"[A-Za-z0-9][\w.+~-]*", re.ASCII)
_is_word = _matches(_WORD)
_is_series = _matches(re.compile(r"\d{1,4}\.\d{1,4}", re.ASCII))
_is_pattern = _matches(re.compile(r"[a-z0-9]+-[a-z0-9+.-]*\*[a-z0-9+.-]*"))
# key: whether a value is good, and what it should be
_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_word, "one word of letters, digits and . + ~ _ -"),
    "mirror": (_matches(re.compile(r"[a-z]+:/\S+")), "the address of the folder that holds dists, in quotes"),
    "archive": (lambda value: value in tuple(VARIABLES), f"one of {', '.join(VARIABLES)}"),
    "suite": (_is_word, "one word of letters, digits and . + ~ _ -, as below the mirror's dists"),
    "component": (_matches(re.compile(r"[A-Za-z0-9][\w.+/-]*", re.ASCII)), "one word, such as main"),
    "keyring": (_matches(re.compile(r"\S+")), "the path of a file, in quotes and without a blank"),
    "series": (lambda value: _is_list_of(value, _is_series), 'a list of series, such as ["5.15", "6.8"]'),
    "rolling": (_is_bool, "true or false"),
    "packages": (
        lambda value: value != [] and _is_list_of(value, _is_pattern),
        'a list of names that each hold one *, such as ["linux-image-*-amd64"]',
    ),
    "ended": (_is_bool, "true or false"),
}
