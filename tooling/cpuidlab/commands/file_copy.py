"""Copy single files to and from a VM over SSH: there is no scp in it, but `cat`."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from cpuidlab.base.atomic import written_aside
from cpuidlab.base.command import last_line
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.commands.conversation import Descriptor, converse
from cpuidlab.commands.far_command import quoted

if TYPE_CHECKING:
    from cpuidlab.rig.ssh import Ssh

START_SECONDS = 60.0  # until the program at the other end runs
MOST_MODE = 0o777  # of a file that comes from a VM: no set-user-ID program for this machine
# The exit codes of the scripts below that say what is wrong with the name that was given; others are a failed copy.
WRONG = {91: "is not there", 92: "is a folder", 93: "is no regular file", 94: "would lie in a folder that is not there"}
PUT = """
[ ! -d "$1" ] || exit 92
[ ! -e "$1" ] || [ -f "$1" ] || exit 93
[ -d "$(dirname -- "$1")" ] || exit 94
umask 077
set -C
aside=$1.$$.partial
trap 'rm -f -- "$aside"' EXIT
cat >"$aside" && [ "$(stat -c %s -- "$aside")" = "$3" ] && chmod -- "$2" "$aside" && mv -f -- "$aside" "$1"
"""
GET = """
[ -e "$1" ] || exit 91
[ ! -d "$1" ] || exit 92
[ -f "$1" ] || exit 93
stat -L -c %a -- "$1" >&2 && cat -- "$1"
"""


@dataclass(frozen=True)
class Put:
    """A file of this machine, and its name in the VM; a relative name is one in root's home."""

    here: Path
    there: str


@dataclass(frozen=True)
class Get:
    """A file in the VM, and its name on this machine."""

    there: str
    here: Path


def parse_put(text: str) -> Put:
    """Read FILE[:TARGET]. Raises UsageError where the file cannot be read."""
    name, target = _split("--put", text)
    here = Path(name)
    _check_readable(here)
    return Put(here, target + here.name if not target or target.endswith("/") else target)


def parse_get(text: str) -> Get:
    """Read FILE[:TARGET]. Raises UsageError where the target cannot be written."""
    there, target = _split("--get", text)
    name = PurePosixPath(there).name
    here = Path(target + name if not target or target.endswith("/") else target)
    if here.is_dir():
        raise UsageError(f"--get: {here} is a folder; name a file in it")
    if here.is_symlink() or (here.exists() and not here.is_file()):
        raise UsageError(f"--get: {here} is no regular file, and nothing else is replaced")
    if not os.access(here.parent, os.W_OK | os.X_OK):
        raise UsageError(f"--get: nothing can be written to the folder {here.parent}")
    return Get(there, here)


def put(ssh: Ssh, copy: Put, look: Callable[[], None]) -> None:
    """Copy a file into the VM, with its mode, in the place of a file of that name.

    Raises UsageError where either name is wrong, LabError where the file could not be written.
    """
    with copy.here.open("rb") as file, TemporaryFile() as said:
        about = os.fstat(file.fileno())
        words = [copy.there, f"{stat.S_IMODE(about.st_mode):o}", str(about.st_size)]
        code = _run(ssh, PUT, words, _Streams(file, said, said), look)
        _check("--put", copy.there, code, said)


def get(ssh: Ssh, copy: Get, look: Callable[[], None]) -> None:
    """Copy a file out of the VM, with its mode, in the place of a file of that name.

    Raises UsageError where the VM has no such file, LabError where it could not be read, OSError where the copy could
    not be written.
    """
    with written_aside(copy.here) as partial, TemporaryFile() as said, Path(os.devnull).open("rb") as nothing:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            code = _run(ssh, GET, [copy.there], _Streams(nothing, file, said), look)
        _check("--get", copy.there, code, said)
        said.seek(0)
        partial.chmod(int(said.read(), 8) & MOST_MODE)


def _split(option: str, text: str) -> tuple[str, str]:
    """Split FILE:TARGET at the last colon; a name that has one itself is written with another at its end."""
    name, colon, target = text.rpartition(":")
    if not colon:
        name, target = text, ""
    if not name or name.endswith("/"):
        raise UsageError(f"{option} {text}: this names no file")
    return name, target


def _check_readable(file: Path) -> None:
    if not file.exists():
        raise UsageError(f"--put: there is no file {file}")
    if not file.is_file():
        raise UsageError(f"--put: {file} is no regular file")
    if not os.access(file, os.R_OK):
        raise UsageError(f"--put: {file} may not be read")


@dataclass(frozen=True)
class _Streams:
    """The files that a script reads and writes."""

    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]


def _run(ssh: Ssh, script: str, words: Sequence[str], streams: _Streams, look: Callable[[], None]) -> int:
    channel = ssh.open_program(quoted(["sh", "-c", script, "sh", *words]), Deadline.after(START_SECONDS))
    stdin = Descriptor(streams.stdin.fileno())
    return converse(channel, stdin, streams.stdout.fileno(), streams.stderr.fileno(), look)


def _check(option: str, name: str, code: int, said: IO[bytes]) -> None:
    """Raise the error for the exit code of a script and what it has said."""
    if code in WRONG:
        raise UsageError(f"{option}: {name} in the VM {WRONG[code]}")
    if code != 0:
        said.seek(0)
        last = last_line(said.read().decode(errors="replace"))
        text = "".join(letter if letter.isprintable() else "?" for letter in last)
        raise LabError(f"{option}: {name} in the VM could not be copied: {text}")
