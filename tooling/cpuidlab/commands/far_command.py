"""The line that the shell of a VM is given; no word of the user's is more than a word in it."""

import os
import re
from collections.abc import Sequence

from cpuidlab.base.errors import UsageError

MOST_BYTES = 9000  # of a command, in dropbear (MAX_CMD_LEN in its sysoptions.h)


def quoted(words: Sequence[str]) -> str:
    """Return the words as a shell reads them again; each is quoted, or `if` and `A=1` were more than words."""
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)


def far_line(words: Sequence[str], name: str, *, terminal: bool) -> str:
    """Return the line that runs the words, or a shell where there are none.

    `name` stands in the prompt of a shell on a terminal. Raises UsageError where the line is longer than the SSH server
    takes.
    """
    program = quoted(words) or (_prompting_shell(name) if terminal else "sh")
    # SSH tells no number of a program that a signal has ended. The shell around it does: 128 and the signal's number.
    line = f"{program}; exit $?"
    if terminal:  # Ctrl-C is for the program alone
        line = f"stty iutf8; trap : INT QUIT; {line}"
    if len(os.fsencode(line)) > MOST_BYTES:
        raise UsageError(f"the command is longer than {MOST_BYTES} bytes; put a script there with --put, and run that")
    return line


def _prompting_shell(name: str) -> str:
    prompt = re.sub(r"[^\w .+-]", "_", name, flags=re.ASCII)
    return f"LANG=C.UTF-8 PS1='{prompt}:\\w# ' sh"
