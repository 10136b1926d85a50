"""Avocado's spawner plug-in: a test begins when its rigs are ready, and no job waits for a test that is lost."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from avocado.core.task.runtime import RuntimeTaskStatus
from avocado.core.utils.messages import FinishedMessage
from avocado.plugins.spawners.process import ProcessSpawner

from cpuidlab.avocado_plugin import journal, progress_plugin, rig_scheduler
from cpuidlab.avocado_plugin.current_job import job
from cpuidlab.base import error_text
from cpuidlab.base.die_with_parent import DIE_WITH_US
from cpuidlab.base.errors import NO_RIG, LabError

LOOK_SECONDS = 0.5
TURN_SECONDS = 0.05  # between two looks at whether a test may begin
# What Avocado's own task.timeout.running is elsewhere: that one would count the time that a test waits for its rigs.
RUNNING_SECONDS = 1200.0  # longer than each test gives itself, see promise_run
GONE_SECONDS = 10.0  # a test that has ended well is gone as well, until a runner on a busy machine has looked at it
_TERMINATED = (RuntimeTaskStatus.TIMEOUT, RuntimeTaskStatus.INTERRUPTED)  # Avocado itself tells how these ended


class Handle:
    """A test that is to begin, runs or has ended. Of a handle Avocado uses `wait_task` alone."""

    def __init__(self) -> None:
        self.process: asyncio.subprocess.Process | None = None
        self.wait_task: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.is_over = False

    def runs(self, process: asyncio.subprocess.Process) -> None:
        """Note the runner that has been started."""
        self.process = process
        self.wait_task = asyncio.ensure_future(process.wait())


class WatchingSpawner(ProcessSpawner):  # type: ignore[misc]  # Avocado has no types
    """Runs tests as processes like Avocado's own spawner, and watches over them.

    A test is spawned at once as far as Avocado knows, so that it can be interrupted, but its runner is started when
    its rigs are ready and the machine has room. There are two processes for each test: Avocado's runner and its
    child, the test. If the runner is killed, nothing reports a result. If the test is killed, the runner goes on
    reporting that the test runs.
    """

    description = "Process spawner that waits for rigs and notices lost tests"

    async def spawn_task(self, runtime_task: Any) -> bool:
        """Take the test on; its runner starts in `wait_task`."""
        self.create_task_output_dir(runtime_task)
        runtime_task.spawner_handle = Handle()
        return True

    @staticmethod
    async def wait_task(runtime_task: Any) -> None:
        """Start the runner when it may and wait for its end; report on its behalf what it does not report itself."""
        handle, name = runtime_task.spawner_handle, runtime_task.task.identifier
        kept = job.kept.get((name.name, name.variant))
        if kept:
            _take_over(runtime_task.task, kept)
            return
        making = job.rigs
        while making and not making.is_ready(name.variant) and not handle.is_over:
            await asyncio.sleep(TURN_SECONDS)
        trouble = making and making.trouble(name.variant)
        if trouble:
            text = error_text.told(trouble) if isinstance(trouble, LabError) else str(trouble)
            _report(runtime_task.task, text, NO_RIG)
            return
        slots = making and making.slots_of(name.variant)
        if slots:
            await _turn(slots, handle)
        began = time.monotonic()
        try:
            await _run(runtime_task, handle)
        finally:
            if slots:
                slots.give_back()
        if not handle.is_over:
            progress_plugin.cell_took(time.monotonic() - began)

    async def terminate_task(self, runtime_task: Any) -> bool:
        """End the runner, softly first, and whatever of the test is left; a test that waits will never begin."""
        handle = runtime_task.spawner_handle
        handle.is_over = True
        if handle.process is None:
            return True
        ended: bool = await super().terminate_task(runtime_task)
        _end_session(handle.process)
        return ended


async def _turn(slots: rig_scheduler.Slots, handle: Handle) -> None:
    """Wait for a slot."""
    slots.a_test_waits(1)
    try:
        while not slots.take():
            await asyncio.sleep(TURN_SECONDS)
    finally:
        slots.a_test_waits(-1)


async def _run(runtime_task: Any, handle: Handle) -> None:
    if handle.is_over:
        return
    task = runtime_task.task
    words = [*DIE_WITH_US, *task.runnable.runner_command(), "task-run", *task.get_command_args()]
    null = asyncio.subprocess.DEVNULL
    try:  # a session of its own is ended as a whole; Ctrl-C comes to Avocado alone, which ends its tests
        process = await asyncio.create_subprocess_exec(
            *words, stdin=null, stdout=null, stderr=null, start_new_session=True
        )
    except OSError as error:
        _report(task, f"the test cannot be started: {error}")
        return
    handle.runs(process)
    try:
        lost = await asyncio.wait_for(_watch(handle, process), RUNNING_SECONDS)
    except TimeoutError:
        lost = f"the test did not end within {RUNNING_SECONDS:.0f} s"
    if lost is None and process.returncode and runtime_task.status not in _TERMINATED:
        lost = f"Avocado's runner ended with code {process.returncode}"
    if lost is not None:
        _end_session(process)
        _report(task, lost)


async def _watch(handle: Handle, process: asyncio.subprocess.Process) -> str | None:
    """Wait until the runner ends; end it where its test is gone, and say so."""
    looks_gone = 0
    while not handle.wait_task.done():
        looks_gone = looks_gone + 1 if _test_is_gone(process.pid) else 0
        if looks_gone * LOOK_SECONDS > GONE_SECONDS:
            process.kill()
            await handle.wait_task
            return "the test's process ended without a result: killed, or it exited by itself"
        await asyncio.wait({handle.wait_task}, timeout=LOOK_SECONDS)
    return None


def _test_is_gone(runner: int) -> bool:
    """Tell whether the runner has a child that has ended and that the runner has not asked about."""
    try:
        return any(child.status() == psutil.STATUS_ZOMBIE for child in psutil.Process(runner).children())
    except psutil.NoSuchProcess:
        return False


def _end_session(process: asyncio.subprocess.Process) -> None:
    """End what an ended runner has left: a test goes on when its runner is killed."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _take_over(task: Any, line: journal.Line) -> None:
    """End a task with what an earlier job has decided."""
    try:
        journal.take_over(line, Path(task.runnable.output_dir))
    except OSError as error:
        _report(task, f"the evidence of the job that is resumed cannot be copied: {error}")
        return
    _post(task, line.status.lower(), fail_reason=line.reason or None)


def _report(task: Any, reason: str, kind: str = "LostTest") -> None:
    """Tell Avocado's status server that the task has ended with an error."""
    _post(task, "error", fail_reason=reason, fail_class=kind)


def _post(task: Any, result: str, **more: Any) -> None:
    names = {"id": str(task.identifier), "job_id": task.job_id}
    for service in task.status_services:
        service.post(FinishedMessage.get(result, **more) | names)
        service.close()
