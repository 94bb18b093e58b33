"""Where a worker runs functions: in threads, or in an event loop of their own. `_processes` has the third place.

The functions run beside the loop in which the worker talks to the server, so whatever they do, leases are extended.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from ._execution import Ending, run, run_async

if TYPE_CHECKING:
    from ._app import App
    from ._task import Task

# How long a loop has to end, whose coroutines have been cancelled already.
_END_SECONDS = 1.0


class Pool(ABC):
    """Runs up to `jobs` functions at once. Its methods belong to the worker's event loop."""

    can_interrupt = True
    """Whether `interrupt` ends functions."""

    def __init__(self, app: App, jobs: int) -> None:
        self.app = app
        self.jobs = jobs
        self.changed: Callable[[], None] = lambda: None
        """Called when the number of places changes."""

    async def begin(self) -> None:
        """Prepares the places."""

    @property
    def places(self) -> int:
        """How many functions can run at once now."""
        return self.jobs

    @abstractmethod
    def start(self, task: Task) -> asyncio.Future[Ending]:
        """Starts the function of a task. The future is done when the place is free again."""

    def abandon(self, task: Task) -> None:
        """Tells the function of a task that its lease is lost. Its future becomes done as always."""

    def interrupt(self, task: Task) -> None:
        """Ends the function of a task, if that is possible. Its future becomes done then."""

    async def end(self) -> bool:
        """Ends the pool, and what still runs in it as far as it can be ended. Returns whether nothing runs any more."""
        return True


class ThreadPool(Pool):
    """A thread for each function that runs. Threads cannot be ended from outside: they see `task.lost`."""

    can_interrupt = False

    def __init__(self, app: App, jobs: int) -> None:
        super().__init__(app, jobs)
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[tuple[Task, asyncio.Future[Ending]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0

    def start(self, task: Task) -> asyncio.Future[Ending]:
        future: asyncio.Future[Ending] = self._loop.create_future()
        self._busy += 1
        if self._busy > len(self._threads):
            # As daemons, they cannot keep the process from ending.
            thread = threading.Thread(target=self._work, name=f"emq-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._waiting.put((task, future))
        return future

    async def end(self) -> bool:
        if self._busy > 0:
            return False
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()
        return True

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            task, future = item
            outcome = run(self.app, task)
            try:
                self._loop.call_soon_threadsafe(self._settle, future, outcome)
            except RuntimeError:
                return  # The worker has ended without this thread.

    def _settle(self, future: asyncio.Future[Ending], outcome: Ending) -> None:
        self._busy -= 1
        if not future.done():
            future.set_result(outcome)


class LoopPool(ThreadPool):
    """One event loop, in a thread of its own, for all coroutines; threads for the functions that are none."""

    can_interrupt = True

    async def begin(self) -> None:
        self._inner = asyncio.new_event_loop()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._thread = threading.Thread(target=self._run_loop, name="emq-asyncio", daemon=True)
        self._thread.start()

    def start(self, task: Task) -> asyncio.Future[Ending]:
        try:
            is_async = self.app.function_for(task.content)[0].is_async
        except (Exception, SystemExit):
            # The thread looks for the function again, and reports the failure.
            is_async = False
        if not is_async:
            return super().start(task)
        future: asyncio.Future[Ending] = self._loop.create_future()
        self._inner.call_soon_threadsafe(self._begin_task, task, future)
        return future

    def abandon(self, task: Task) -> None:
        self._inner.call_soon_threadsafe(self._cancel, task.receipt)

    def interrupt(self, task: Task) -> None:
        self.abandon(task)

    async def end(self) -> bool:
        is_idle = await super().end()
        if not self._inner.is_closed():
            self._inner.call_soon_threadsafe(self._inner.stop)
            await self._loop.run_in_executor(None, self._thread.join, _END_SECONDS)
        return is_idle and not self._thread.is_alive()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._inner)
        try:
            self._inner.run_forever()
            for task in self._tasks.values():
                task.cancel()
            # Coroutines that never end are left.
            if self._tasks:
                self._inner.run_until_complete(asyncio.wait(self._tasks.values(), timeout=_END_SECONDS / 2))
            self._inner.run_until_complete(self._inner.shutdown_asyncgens())
        finally:
            self._inner.close()

    def _begin_task(self, task: Task, future: asyncio.Future[Ending]) -> None:
        self._tasks[task.receipt] = self._inner.create_task(self._run(task, future))

    async def _run(self, task: Task, future: asyncio.Future[Ending]) -> None:
        outcome = Ending("failed", error="cancelled")
        try:
            outcome = await run_async(self.app, task)
        finally:
            del self._tasks[task.receipt]
            try:
                self._loop.call_soon_threadsafe(self._finish, future, outcome)
            except RuntimeError:
                pass  # The worker has ended without this loop.

    def _finish(self, future: asyncio.Future[Ending], outcome: Ending) -> None:
        if not future.done():
            future.set_result(outcome)

    def _cancel(self, receipt: str) -> None:
        if task := self._tasks.get(receipt):
            task.cancel()
