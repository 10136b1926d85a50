"""Avocado's spawner plug-in: a test whose process is lost ends as an ERROR; Avocado alone would wait for it forever."""

import asyncio
from typing import Any

import psutil
from avocado.core.task.runtime import RuntimeTaskStatus
from avocado.core.utils.messages import FinishedMessage
from avocado.plugins.spawners.process import ProcessSpawner

LOOK_SECONDS = 1.0
_TERMINATED = (RuntimeTaskStatus.TIMEOUT, RuntimeTaskStatus.INTERRUPTED)  # Avocado itself tells how these ended


class WatchingSpawner(ProcessSpawner):  # type: ignore[misc]  # Avocado has no types
    """Runs tests as processes like Avocado's own spawner, and watches over them.

    There are two for each test: Avocado's runner and its child, the test. If the runner is killed nobody reports a
    result; if the test is killed the runner goes on saying that it is running.
    """

    description = "Process spawner that notices lost tests"

    @staticmethod
    async def wait_task(runtime_task: Any) -> None:
        """Wait for the runner's end; report an error on its behalf where it could not do so itself."""
        handle = runtime_task.spawner_handle
        lost = await _watch(handle)
        if lost is None and handle.process.returncode and runtime_task.status not in _TERMINATED:
            lost = f"Avocado's runner ended with code {handle.process.returncode}"
        if lost is not None:
            _report(runtime_task.task, lost)


async def _watch(handle: Any) -> str | None:
    """Wait until the runner ends; end it where its test is gone, and say so."""
    gone_before = False
    while not handle.wait_task.done():
        await asyncio.wait({handle.wait_task}, timeout=LOOK_SECONDS)
        gone = _test_is_gone(handle.process.pid)
        if gone and gone_before:  # a test that has just ended well is gone as well, for an instant
            handle.process.kill()
            await handle.wait_task
            return "the test's process was killed"
        gone_before = gone
    return None


def _test_is_gone(runner: int) -> bool:
    """Whether the runner has a child that has ended and that nobody has asked about."""
    try:
        return any(child.status() == psutil.STATUS_ZOMBIE for child in psutil.Process(runner).children())
    except psutil.NoSuchProcess:
        return False


def _report(task: Any, reason: str) -> None:
    """Tell Avocado's status server that the task has ended with an error."""
    told = {"id": str(task.identifier), "job_id": task.job_id}
    for service in task.status_services:
        service.post(FinishedMessage.get("error", fail_reason=reason, fail_class="LostTest") | told)
        service.close()
