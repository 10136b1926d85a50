"""Take a patch apart into the files that it changes, and drop what cannot change KVM's modules."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_GIT = re.compile(r"diff --git \S+ [^/\s]+/(\S+)")
_NAME = re.compile(r"(?:---|\+\+\+) (?:[^/\s]+/)?([^\t\n]+)")
_EXTENDED = (
    "old mode ", "new mode ", "deleted file mode ", "new file mode ", "copy ", "rename ", "similarity ",
    "dissimilarity ", "index ", "Binary files ",
)  # fmt: skip
# Nothing of these is compiled into the modules of x86: documents, programs for user space, other machines' code.
_NOT_BUILT = re.compile(r"(Documentation|tools|samples)/|arch/(?!x86/)[^/]+/|(MAINTAINERS|CREDITS|\.mailmap)$")


@dataclass(frozen=True)
class FileDiff:
    """What a patch does to one file: the file's path without its first part, and the text of the diff."""

    path: str
    text: str

    @property
    def built(self) -> bool:
        """Whether the change can show in KVM's modules for x86."""
        return _NOT_BUILT.match(self.path) is None


def files_of(text: str) -> tuple[FileDiff, ...]:
    """The files that a patch changes, in its order; whatever stands before, between and behind them is left out."""
    lines = [line + "\n" for line in text.removesuffix("\n").split("\n")]
    return tuple(_files(lines))


def _files(lines: list[str]) -> Iterator[FileDiff]:
    at = 0
    while at < len(lines):
        start = at
        at = _after_header(lines, at)
        if at == start:
            at += 1
            continue
        header = lines[start:at]
        at = _after_binary(lines, at)
        while at < len(lines) and _HUNK.match(lines[at]):
            at = _after_hunk(lines, at)
        yield FileDiff(_path(header), "".join(lines[start:at]))


def _after_header(lines: list[str], at: int) -> int:
    """The index after the head of a file's diff; `at` itself where no file's diff begins there."""
    end = at
    if lines[end].startswith("diff --git "):
        end += 1
        while end < len(lines) and lines[end].startswith(_EXTENDED):
            end += 1
    if lines[end : end + 1] and lines[end].startswith("--- ") and lines[end + 1 : end + 2]:
        end += 2 if lines[end + 1].startswith("+++ ") else 0
    return end


def _after_binary(lines: list[str], at: int) -> int:
    """The index after the one or two blocks of a binary change."""
    if lines[at : at + 1] != ["GIT binary patch\n"]:
        return at
    at += 1
    while at < len(lines) and lines[at].startswith(("literal ", "delta ")):
        while at < len(lines) and lines[at].strip():
            at += 1
        at += 1
    return min(at, len(lines))


def _after_hunk(lines: list[str], at: int) -> int:
    """The index after a hunk: its head says how many lines belong to it. A hunk that is cut off ends early."""
    found = _HUNK.match(lines[at])
    assert found  # noqa: S101  the caller looked
    old, new = (int(count) if count is not None else 1 for count in found.groups())
    at += 1
    while at < len(lines) and (old > 0 or new > 0):
        sign = lines[at][0]
        if sign not in " +-\\\n":
            return at
        old -= sign in " -\n"
        new -= sign in " +\n"
        at += 1
    return at + 1 if lines[at : at + 1] and lines[at].startswith("\\") else at


def _path(header: list[str]) -> str:
    """The file that is changed: its new name, unless it is deleted."""
    names = [found[1].rstrip() for line in reversed(header) if (found := _NAME.match(line))]
    names += [found[1] for found in map(_GIT.match, header[:1]) if found]
    return next((name for name in names if name != "/dev/null"), "")
