"""End Avocado with one line and an exit code where the lab's own plug-ins fail."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cpuidlab.base import error_text
from cpuidlab.base.exit_codes import TERMINATED


@contextmanager
def exit_in_one_line() -> Iterator[None]:
    """Turn what goes wrong into one line and SystemExit; Avocado would print a traceback and go on."""
    try:
        yield
    except SystemExit as error:  # Avocado's answer to SIGTERM is one with a text, which Python takes for 1
        if error.code != "Terminated":
            raise
        line, code = "terminated", TERMINATED
    except (Exception, KeyboardInterrupt) as error:
        logging.getLogger("avocado.cpuidlab").debug("why the job ends", exc_info=True)  # avocado --show all
        line, code = error_text.line_and_code(error)
    else:
        return
    print(f"cpuidlab: {line}", file=sys.stderr)
    raise SystemExit(code)
