"""Avocado's spawner plug-in: no test outlives the job, and no job waits for a test that is lost."""

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any

import psutil
from avocado.core.task.runtime import RuntimeTaskStatus
from avocado.core.utils.messages import FinishedMessage
from avocado.plugins.spawners.process import ProcessSpawner, ProcessSpawnerHandle

LOOK_SECONDS = 0.5
# without it the runner goes on for ever when Avocado is killed
DIE_WITH_AVOCADO = ("setpriv", "--pdeathsig", "KILL", "--")
GONE_SECONDS = 10.0  # a test that has ended well is gone as well, until a runner on a busy machine has looked at it
_TERMINATED = (RuntimeTaskStatus.TIMEOUT, RuntimeTaskStatus.INTERRUPTED)  # Avocado itself tells how these ended


class WatchingSpawner(ProcessSpawner):  # type: ignore[misc]  # Avocado has no types
    """Runs tests as processes like Avocado's own spawner, and watches over them.

    There are two for each test: Avocado's runner and its child, the test. If the runner is killed nobody reports a
    result; if the test is killed the runner goes on saying that it is running.
    """

    description = "Process spawner that notices lost tests"

    async def spawn_task(self, runtime_task: Any) -> bool:
        """Start the runner; False where that is impossible."""
        self.create_task_output_dir(runtime_task)
        task = runtime_task.task
        words = [*DIE_WITH_AVOCADO, *task.runnable.runner_command(), "task-run", *task.get_command_args()]
        null = asyncio.subprocess.DEVNULL
        try:  # a session of its own is ended as a whole; Ctrl-C comes to Avocado alone, which ends its tests
            process = await asyncio.create_subprocess_exec(
                *words, stdin=null, stdout=null, stderr=null, start_new_session=True
            )
        except OSError:
            return False
        runtime_task.spawner_handle = ProcessSpawnerHandle(process)
        return True

    @staticmethod
    async def wait_task(runtime_task: Any) -> None:
        """Wait for the runner's end; report an error on its behalf where it could not do so itself."""
        handle = runtime_task.spawner_handle
        lost = await _watch(handle)
        if lost is None and handle.process.returncode and runtime_task.status not in _TERMINATED:
            lost = f"Avocado's runner ended with code {handle.process.returncode}"
        if lost is not None:
            _end_session(handle)
            _report(runtime_task.task, lost)

    async def terminate_task(self, runtime_task: Any) -> bool:
        """End the runner, softly first, and whatever of the test is left."""
        ended: bool = await super().terminate_task(runtime_task)
        _end_session(runtime_task.spawner_handle)
        return ended


async def _watch(handle: Any) -> str | None:
    """Wait until the runner ends; end it where its test is gone, and say so."""
    looks_gone = 0
    while not handle.wait_task.done():
        looks_gone = looks_gone + 1 if _test_is_gone(handle.process.pid) else 0
        if looks_gone * LOOK_SECONDS > GONE_SECONDS:
            handle.process.kill()
            await handle.wait_task
            return "the test's process ended without a result: killed, or it exited by itself"
        await asyncio.wait({handle.wait_task}, timeout=LOOK_SECONDS)
    return None


def _test_is_gone(runner: int) -> bool:
    """Whether the runner has a child that has ended and that the runner has not asked about."""
    try:
        return any(child.status() == psutil.STATUS_ZOMBIE for child in psutil.Process(runner).children())
    except psutil.NoSuchProcess:
        return False


def _end_session(handle: Any) -> None:
    """End what an ended runner has left: a test goes on when its runner is killed."""
    with suppress(ProcessLookupError):
        os.killpg(handle.process.pid, signal.SIGKILL)


def _report(task: Any, reason: str) -> None:
    """Tell Avocado's status server that the task has ended with an error."""
    told = {"id": str(task.identifier), "job_id": task.job_id}
    for service in task.status_services:
        service.post(FinishedMessage.get("error", fail_reason=reason, fail_class="LostTest") | told)
        service.close()
