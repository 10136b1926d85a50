"""Show a job's progress: one live line on a terminal, else plain lines. A failure here breaks no job."""

import atexit
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from avocado.core.output import LOG_UI
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.text import Text

from cpuidlab.avocado_plugin.job_progress import JobProgress
from cpuidlab.base import progress
from cpuidlab.base.progress import Lines, console, say

TELL_SECONDS = 60.0  # between two lines where there is no terminal


class Plain(Lines):
    """Shows steps as lines, as without a job; and once a minute where the job stands."""

    def __init__(self, job: JobProgress) -> None:
        self.job = job
        self._ended: threading.Event | None = None

    def ended(self, what: str, seconds: float | None) -> None:
        """Print and count the step."""
        super().ended(what, seconds)
        _count(self.job, what, seconds)

    def start(self) -> None:
        """Begin to print where the job stands."""
        if self._ended is None:
            self._ended = threading.Event()
            threading.Thread(target=self._tell, args=(self._ended,), daemon=True, name="progress").start()

    def stop(self) -> None:
        """Print no more."""
        if self._ended is not None:
            self._ended.set()
        self._ended = None

    def _tell(self, ended: threading.Event) -> None:
        while not ended.wait(TELL_SECONDS):
            with only_display():
                say(f"  -- {self.job.line()}")


class Lively:
    """Keeps one line with the steps at the bottom of the terminal; all else is printed above the line."""

    def __init__(self, job: JobProgress) -> None:
        self.job = job
        self._steps: dict[str, None] = {}
        self._live: Live | None = None
        self._streams: list[tuple[logging.StreamHandler[Any], Any]] = []
        atexit.register(self.stop)  # or the cursor stays hidden

    def begins(self, what: str) -> None:
        """Show the step in the line."""
        self._steps[what] = None

    def ended(self, what: str, seconds: float | None) -> None:
        """Count the step and show it no more."""
        self._steps.pop(what, None)
        _count(self.job, what, seconds)

    def start(self) -> None:
        """Show the line."""
        if self._live is None:
            self._live = Live(console=console(), transient=True, refresh_per_second=2, get_renderable=self._line)
            self._live.start()
            for handler in LOG_UI.handlers:  # they keep the streams that they once had
                if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                    self._streams.append((handler, handler.setStream(FileProxy(console(), handler.stream))))

    def stop(self) -> None:
        """Take the line away."""
        if self._live is not None:
            for handler, stream in self._streams:
                handler.setStream(stream)
            self._streams.clear()
            self._live.stop()
            self._live = None

    def _line(self) -> Text:
        steps = ", ".join(step.removeprefix("rigs: ") for step in list(self._steps))
        try:
            text = f"  -- {self.job.line()}{f'; now {steps}' if steps else ''}"
        except Exception as error:  # whoever prints a line has this one drawn anew, and must not fail by it
            text = f"  !! no progress can be shown: {type(error).__name__}: {error}; a defect of the lab"
        return Text(text, no_wrap=True, overflow="ellipsis")


Display = Plain | Lively


def is_lively() -> bool:
    """Tell whether a line at the bottom can be kept: both streams must be the terminal."""
    return console().is_terminal and not console().is_dumb_terminal and sys.stdout.isatty()


@contextmanager
def only_display() -> Iterator[None]:
    """Say in one line what went wrong in the display, and let the job go on."""
    try:
        yield
    except Exception as error:
        logging.getLogger("avocado.cpuidlab").debug("the display's defect", exc_info=True)  # avocado --show all
        say(f"  !! the progress is not shown as it should: {type(error).__name__}: {error}; a defect of the lab")


def _count(job: JobProgress, what: str, seconds: float | None) -> None:
    """Count a step, whatever thread it was in."""
    if seconds is not None:
        with only_display():
            job.step_ended(what, seconds)


def show(display: Display) -> None:
    """Have steps shown by this display from now on."""
    progress.watcher = display
