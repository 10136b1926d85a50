"""QMP over any connected socket, synchronous, with a transcript of all messages."""

import asyncio
import json
import logging
import socket
from typing import Any

from qemu.qmp import ExecuteError, QMPClient, QMPError

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError, UnknownCommandError

logging.getLogger("qemu.qmp").setLevel(logging.WARNING)  # the transcript has everything; see ssh.py
ANSWER_SECONDS = 30.0  # for each command: none of ours takes long, and time must be left to look at what hangs
TURNS = 4  # of the event loop: the first reads the socket, the next ones parse what was read


class Qmp:
    """One QMP connection. `events` has all events in the order of their arrival."""

    def __init__(self, name: str, connected: socket.socket, deadline: Deadline) -> None:
        """Negotiate capabilities over `connected`. Raises LostVMError where QEMU closes the connection instead."""
        self.name = name
        self.events: list[dict[str, Any]] = []
        self.transcript: list[str] = []
        self._loop = asyncio.new_event_loop()
        # an error is raised to the caller who waits; asyncio need not print it as well
        self._loop.set_exception_handler(lambda _, context: self._note("!!", context))
        self._client = QMPClient(name)
        connected.setblocking(False)
        self._until(self._client.connect(connected), deadline, "the QMP greeting")

    def execute(self, command: str, deadline: Deadline, **arguments: Any) -> Any:
        """Run one command, and return its answer. A `_` in an argument's name stands for `-`.

        Raises LabError where QEMU refuses the command or is silent too long, UnknownCommandError where it does not
        know the command, LostVMError where the connection ends.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._note("->", {"execute": command, "arguments": named})
        patience = deadline.within(ANSWER_SECONDS)
        try:
            answer = self._until(self._client.execute(command, named or None), patience, command)
        except ExecuteError as error:
            self._note("<-", {"error": str(error)})
            kind = UnknownCommandError if error.error_class == "CommandNotFound" else LabError
            raise kind(f"{self.name}: QMP {command} was refused: {error}") from error
        self._note("<-", {"return": answer})
        self._drain()
        return answer

    def watch(self) -> None:
        """Read the events that have arrived. Raises LostVMError where the connection has ended."""
        try:
            self._loop.run_until_complete(_turns())
        finally:
            self._drain()
        if self._client.runstate.name != "RUNNING":
            raise LostVMError(f"{self.name}: the QMP connection has ended", self.tail())

    def seen(self, event: str) -> dict[str, Any] | None:
        """Return the first event of that name, None where there was none."""
        return next((arrived for arrived in self.events if arrived["event"] == event), None)

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of the transcript."""
        return "\n".join(self.transcript[-lines:])

    def close(self) -> None:
        """Close the connection, whatever its state."""
        try:
            self._until(self._client.disconnect(), Deadline.after(2), "the end of QMP")
        except (LabError, QMPError, OSError, EOFError):
            pass
        finally:
            self._drain()
            self._loop.run_until_complete(_end_tasks())
            self._loop.close()

    def _until(self, coroutine: Any, deadline: Deadline, what: str) -> Any:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(coroutine, max(deadline.left(), 0.01)))
        except TimeoutError as error:
            raise LabError(f"{self.name}: no answer to {what} over QMP in time", self.tail()) from error
        except ExecuteError:
            raise
        except (QMPError, OSError, EOFError) as error:
            self._drain()
            raise LostVMError(f"{self.name}: QMP broke off during {what}: {error!r}", self.tail()) from error

    def _drain(self) -> None:
        for event in self._client.events.clear():
            self.events.append(dict(event))
            self._note("<-", dict(event))

    def _note(self, way: str, message: object) -> None:
        self.transcript.append(f"{way} {json.dumps(message, default=str)}")


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def _end_tasks() -> None:
    """Cancel the tasks that the client leaves behind: the garbage collector would print a traceback for each."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=1)
