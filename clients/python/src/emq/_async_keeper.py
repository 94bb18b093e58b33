"""What extends the leases of the tasks that an `AsyncClient` holds, with a timer for all of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from . import _calls as calls
from ._call import Call
from ._errors import Error
from ._leases import Leases, extension_seconds, is_interruption, logger, now, report, report_seconds, reported
from ._leases import second_report
from ._task import AsyncHolder, Task

T = TypeVar("T")

_INTERRUPTED_SECONDS = 2.0
"""For how long an interrupted program tries to give its task back."""


class AsyncRunner(Protocol):
    """What carries calls to the server."""

    @property
    def timeout(self) -> float:
        """How many seconds a call may take in all."""
        ...

    async def run(
        self, call: Call[T], *, timeout: float | None = None, tries: int | None = None, each: float | None = None
    ) -> T:
        """Does a call."""
        ...


class AsyncKeeper(AsyncHolder):
    """Extends leases, and reports what became of tasks."""

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner
        self.reset()

    def reset(self) -> None:
        """Forgets all tasks, which belong to another loop or process."""
        self._leases = Leases()
        self._waiting: dict[str, Task] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0
        # By receipt: what works on a task, and whether it was cancelled because the lease is lost.
        self._workers: dict[str, asyncio.Task[Any]] = {}
        self._cancelled: set[str] = set()
        self._background: set[asyncio.Task[Any]] = set()

    def in_background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts what must end even if the caller is cancelled, and before the client is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def settle(self) -> None:
        """Waits for what was started in the background."""
        while others := self._background - {asyncio.current_task()}:
            await asyncio.wait(others)

    def hold(self, tasks: Iterable[Task]) -> None:
        """Holds tasks whose work has not begun yet."""
        for task in tasks:
            self._waiting[task.receipt] = task
            self._add(task)

    def hand_out(self, task: Task) -> bool:
        """Holds a task no more, for its work begins. Returns whether the task is still there."""
        self._leases.remove(task)
        return self._waiting.pop(task.receipt, None) is not None and not task.lost

    async def release_waiting(self, tasks: Iterable[Task] | None = None) -> None:
        """Gives back tasks whose work has not begun; all of them by default."""
        chosen = list(self._waiting.values()) if tasks is None else list(tasks)
        chosen = [task for task in chosen if self._waiting.pop(task.receipt, None) and not task.lost]
        for task in chosen:
            self._leases.remove(task)
        if chosen:
            await asyncio.shield(self.in_background(self._release(chosen)))

    async def _release(self, tasks: list[Task]) -> None:
        try:
            await self._runner.run(calls.nak(tasks, release=True), timeout=self._runner.timeout)
        except Error as error:
            logger.warning("cannot give %d tasks back; they come when their leases end: %s", len(tasks), error)

    async def begin(self, task: Task) -> None:
        worker = asyncio.current_task()
        if worker is not None:
            self._workers[task.receipt] = worker
        self._add(task)

    async def finish(self, task: Task, error: BaseException | None) -> bool:
        self._leases.remove(task)
        worker = self._workers.pop(task.receipt, None)
        interrupted = is_interruption(error)
        if task.receipt in self._cancelled:
            self._cancelled.discard(task.receipt)
            interrupted = await _forget_cancellation(worker, error)
            if interrupted and not isinstance(error, asyncio.CancelledError):
                raise asyncio.CancelledError
        if task.lost:
            if isinstance(error, Exception):
                logger.error("%r failed after its lease was lost", task, exc_info=error)
            return not interrupted
        call = report(task, error)
        if interrupted:
            work = self._report(task, error, call, min(_INTERRUPTED_SECONDS, self._runner.timeout), None)
        else:
            work = self._report(task, error, call, report_seconds(task, self._runner.timeout), 1_000_000)
        # A cancellation that comes now must not undo what is done.
        await asyncio.shield(self.in_background(work))
        return not interrupted

    async def _report(
        self, task: Task, error: BaseException | None, call: Call[Any], timeout: float, tries: int | None
    ) -> None:
        each = extension_seconds([task], self._runner.timeout)
        try:
            reported(task, (await self._runner.run(call, timeout=timeout, tries=tries, each=each))["missing"])
        except Error as problem:
            second = second_report(task, error, problem)
            if second is not None:
                try:
                    await self._runner.run(second, timeout=timeout, each=each)
                except Error as other:
                    second_report(task, error, other)

    # MARK: Leases

    def _add(self, task: Task) -> None:
        due = self._leases.add(task, now())
        if self._timer is None or due < self._wakes_at:
            self._wake_at(due)

    def _wake_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        time = now()
        due = self._leases.next_due()
        if due is None:
            return
        if due <= time:
            tasks = self._leases.take_due(time)
            self._leases.extending(tasks, time)
            self.in_background(self._extend(tasks))
            due = self._leases.next_due()
        if due is not None:
            self._wake_at(due)

    async def _extend(self, tasks: list[Task]) -> None:
        missing: list[str] | None = None
        try:
            timeout = extension_seconds(tasks, self._runner.timeout)
            missing = (await self._runner.run(calls.touch(tasks), timeout=timeout))["missing"]
        except Error as error:
            logger.warning("cannot extend leases: %s", error)
        if missing is None:
            self._leases.postpone(tasks, now())
        else:
            for task in self._leases.extended(tasks, missing, now()):
                worker = self._workers.get(task.receipt)
                if worker is not None and worker is not asyncio.current_task():
                    self._cancelled.add(task.receipt)
                    worker.cancel()
        due = self._leases.next_due()
        if due is not None and (self._timer is None or due < self._wakes_at):
            self._wake_at(due)


async def _forget_cancellation(worker: asyncio.Task[Any] | None, error: BaseException | None) -> bool:
    """Forgets the cancellation of a body whose lease was lost. Returns whether somebody else has cancelled it, too."""
    if not isinstance(error, asyncio.CancelledError):
        # The body has ended before the cancellation reached it.
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
    if worker is not None and sys.version_info >= (3, 11):
        return worker.uncancel() > 0
    return False
