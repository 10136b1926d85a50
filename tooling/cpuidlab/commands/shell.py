"""The command `cpuidlab shell`: a shell, or one program, on a nested host or in the guest on it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.die_with_parent import die_with, own_temp_folder
from cpuidlab.base.errors import UsageError
from cpuidlab.base.exit_codes import OK, USAGE
from cpuidlab.commands import file_copy, ssh_access
from cpuidlab.commands.conversation import Descriptor, converse
from cpuidlab.commands.far_command import far_line
from cpuidlab.commands.file_copy import Get, Put
from cpuidlab.commands.terminal import Terminal
from cpuidlab.kernels.host_spec import is_real
from cpuidlab.rig.carrier import BOCHS
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.host_config import Setup, check_accel, setup
from cpuidlab.rig.nested_rig import NestedRig
from cpuidlab.rig.rig import Stage
from cpuidlab.rig.snapshots import restorable

if TYPE_CHECKING:
    from cpuidlab.rig.ssh import Ssh

PROFILE = PROFILES["small"]
# Until the machine has let us in, and until a program runs on it. The rest has no end but the machine's or the user's.
START_SECONDS = 60.0


@dataclass(frozen=True)
class Request:
    """What is wanted inside of the machine; without `words` a shell."""

    guest: bool
    keep: bool
    puts: tuple[Put, ...]
    gets: tuple[Get, ...]
    words: tuple[str, ...]


def main(options: argparse.Namespace) -> int:
    """Do what the command line wants; return the program's own exit code. Ends with the process that started it.

    Raises UsageError for what cannot be, LabError where the machine cannot be had or is lost.
    """
    stage = _stage(options)
    request = _request(options)
    die_with(os.getppid())
    if request.keep:
        own_temp_folder()
    if request.keep and options.accel == BOCHS:
        raise UsageError(f"--keep --accel {BOCHS}: a host under Bochs has no port that ssh could connect to")
    place = _nested(options.host, options.paging, options.accel)
    line = _line(request, f"{place.name} {'guest' if request.guest else 'host'}")
    snapshot = restorable(place, stage, PROFILE)  # what is booted and saved for the first time has its own deadlines
    with NestedRig.restore(place, snapshot, Deadline.after(START_SECONDS, place.patience)) as rig:
        return _inside(rig, request, line)


def _nested(host: str, paging: str, accel: str) -> Setup:
    if is_real(host):
        raise UsageError(f"--host {host}: a shell is for nested hosts; log in to a real machine with ssh")
    check_accel(accel)
    return cast(Setup, setup(host, paging, accel))  # of a nested host


def _stage(options: argparse.Namespace) -> Stage:
    if options.guest and options.stage not in (None, Stage.GUEST_READY):
        raise UsageError(f"--guest: no guest runs at the stage {options.stage}")
    if options.stage:
        return Stage(options.stage)
    return Stage.GUEST_READY if options.guest else Stage.HOST_READY


def _request(options: argparse.Namespace) -> Request:
    words = options.words
    if words and words[0] != "--":
        raise UsageError(f"the command stands behind --: cpuidlab shell -- {' '.join(words)}")
    if words and options.keep:
        raise UsageError("--keep runs no command; give it to the ssh that --keep prints")
    puts = tuple(file_copy.parse_put(text) for text in options.put)
    gets = tuple(file_copy.parse_get(text) for text in options.get)
    return Request(options.guest, options.keep, puts, gets, tuple(words[1:]))


def _line(request: Request, name: str) -> str:
    return far_line(request.words, name, terminal=_on_terminal(request))


def _on_terminal(request: Request) -> bool:
    """Whether the program gets a terminal.

    A shell does where we have one; a command does not where any of its streams goes elsewhere.
    """
    streams = (sys.stdin, sys.stdout, sys.stderr) if request.words else (sys.stdin, sys.stdout)
    return all(stream is not None and stream.isatty() for stream in streams)


def _inside(rig: NestedRig, request: Request, line: str) -> int:
    ssh = rig.guest if request.guest else rig.host
    for put in request.puts:
        file_copy.put(ssh, put, rig.watch)
    code = OK
    if request.keep:
        ssh_access.keep(rig, request.guest)
    elif _on_terminal(request):
        code = _on_our_terminal(ssh, line, rig.watch)
    else:
        code = _on_our_streams(ssh, line, rig.watch)
    missing = _fetch(ssh, request.gets, rig.watch)  # in any case: what a failed command has left is wanted most
    return code or missing


def _on_our_terminal(ssh: Ssh, line: str, watch: Callable[[], None]) -> int:
    with Terminal(sys.stdin.fileno()) as terminal:
        channel = ssh.open_program(line, Deadline.after(START_SECONDS), terminal.pty())

        def look() -> None:
            watch()
            terminal.tell_size(channel)

        return converse(channel, terminal, sys.stdout.fileno(), sys.stderr.fileno(), look)


def _on_our_streams(ssh: Ssh, line: str, watch: Callable[[], None]) -> int:
    channel = ssh.open_program(line, Deadline.after(START_SECONDS))
    with Path(os.devnull).open("rb") as nothing:
        stdin = nothing if sys.stdin is None else sys.stdin
        return converse(channel, Descriptor(stdin.fileno()), sys.stdout.fileno(), sys.stderr.fileno(), watch)


def _fetch(ssh: Ssh, gets: Sequence[Get], watch: Callable[[], None]) -> int:
    """Copy all that is there; say what is not, and return the exit code for it."""
    code = OK
    for get in gets:
        try:
            file_copy.get(ssh, get, watch)
        except UsageError as error:
            print(f"cpuidlab: {error}", file=sys.stderr)
            code = USAGE
    return code
