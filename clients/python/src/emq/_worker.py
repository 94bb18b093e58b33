"""The worker: takes tasks, has a pool run their functions, and reports the outcomes.

It is one event loop. Signals, leases, the wait for tasks and the reports are coroutines of it; functions run elsewhere.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._brake import THRESHOLD, Brake
from ._errors import Error, Forbidden, Unauthorized
from ._execution import Ending, label, logger
from ._pools import Pool
from ._reports import Pauses, Reports, is_away
from ._worker_options import WorkerOptions

if TYPE_CHECKING:
    from ._app import App
    from ._task import TakenTasks, Task

DONE, FAILED, WRONG, NOT_ALLOWED = 0, 1, 2, 4

# The longest wait for tasks.
_WAIT_SECONDS = 20.0
# The waits of a worker that ends when there is no task, while it still has some in work.
_EMPTY_WAIT_SECONDS = (0.01, 1.0)
# How long the last reports may take: after the grace, and after a second signal.
_REPORT_SECONDS = 10.0
_LAST_REPORT_SECONDS = 2.0
# How long functions that are interrupted have to end, before their tasks go back.
_INTERRUPTION_SECONDS = 2.0
_LAST_INTERRUPTION_SECONDS = 0.5
_MAXIMUM_TASKS_OF_A_WAIT = 1000


@dataclass
class _Job:
    task: Task
    begun_at: float
    is_lost: bool = False


class Worker:
    """Does the tasks of an app until something ends it. `run` returns the exit status."""

    def __init__(self, app: App, options: WorkerOptions, make_pool: Callable[[App, int], Pool]) -> None:
        """Raises ValueError or OSError if the app's server or token are malformed."""
        self._app, self._options, self._make_pool = app, options, make_pool
        self._client = app.new_async_client()
        self._jobs: dict[str, _Job] = {}
        self._brake = Brake()
        self._done, self._failed, self._released, self._taken = 0, 0, 0, 0
        self._status = DONE
        self._is_stopping = False
        self._is_forced = False
        self._is_giving_back = False
        self._is_away = False
        self._asked_at: float | None = None
        self._started_at = self._idle_since = time.monotonic()
        self._empty_wait = _EMPTY_WAIT_SECONDS[0]
        self._wait: asyncio.Future[TakenTasks] | None = None
        self._wait_is_unwanted = False
        self._is_pool_ended = True
        self.error: Exception | None = None
        """Why the worker has failed, if that is so."""

    @property
    def left_over(self) -> bool:
        """Whether a function still runs that could not be ended, so that only the end of the process ends it."""
        return not self._is_pool_ended

    async def run(self) -> int:
        """Works, and returns the exit status."""
        loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._reports = Reports(
            self._client, lost=self._lose, away=self._note_away, back=self._note_back, refused=self._refused
        )
        self._pool = self._make_pool(self._app, self._options.jobs)
        self._pool.changed = self._changed.set
        handlers = self._install_signals(loop)
        reporting = asyncio.ensure_future(self._reports.run())
        reporting.add_done_callback(self._note_end_of_reports)
        try:
            queues = ", ".join(name for name, _ in self._options.queues)
            logger.info("working on %s at %s, with %d at once", queues, self._client.url, self._options.jobs)
            await self._pool.begin()
            await self._take()
            await self._finish()
        except BaseException:
            # Somebody has cancelled the worker, or interrupted the program.
            self._is_forced = True
            await self._finish()
            raise
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
            self._is_pool_ended = await self._pool.end()
            await self._client.close()
            for number, handler in handlers.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
        logger.info("stopped: %s", self._summary())
        return self._status

    # MARK: Taking

    async def _take(self) -> None:
        pauses = Pauses()
        while not self._is_stopping:
            self._changed.clear()
            now = time.monotonic()
            if self._options.max_time is not None and now >= self._started_at + self._options.max_time:
                return self._stop("the time is over")
            left = None if self._options.max_tasks is None else self._options.max_tasks - self._taken
            if left == 0 and not self._jobs:
                return self._stop("the number of tasks is reached")
            places = min(self._pool.places, 1) if self._brake.is_on else self._pool.places
            free = min(places - len(self._jobs), left if left is not None else places)
            # While the server is away, outcomes must not pile up.
            if free <= 0 or now < self._brake.resumes_at or self._reports.waiting >= self._options.jobs:
                await self._sleep(self._brake.resumes_at - now if now < self._brake.resumes_at else None)
                continue
            try:
                tasks = await self._poll(free, now)
            except Error as error:
                if is_away(error):
                    self._note_away(error)
                    await self._sleep(pauses.next(), until_stop=True)
                else:
                    self._refused(error)
                continue
            if tasks is None:
                continue
            self._note_back()
            pauses = Pauses()
            self._start(tasks)

    async def _poll(self, free: int, now: float) -> list[Task] | None:
        """Asks the server for tasks. Returns None if none are wanted any more."""
        options = self._options
        timeout = _WAIT_SECONDS
        if options.exit_when_empty is not None:
            idle_left = max(0.0, self._idle_since + options.exit_when_empty - now)
            timeout = min(timeout, self._empty_wait if self._jobs else idle_left)
        if options.max_time is not None:
            timeout = min(timeout, max(0.0, self._started_at + options.max_time - now))
        self._wait_is_unwanted = False
        wait = self._wait = asyncio.ensure_future(
            self._client.wait(
                options.queue_order(),
                timeout,
                max=min(free, _MAXIMUM_TASKS_OF_A_WAIT),
                lease=options.lease,
                worker=options.name,
            )
        )
        try:
            return await wait
        except asyncio.CancelledError:
            if wait.cancelled() and self._wait_is_unwanted:
                return None
            raise
        finally:
            self._wait = None

    def _start(self, tasks: list[Task]) -> None:
        if not tasks:
            self._empty_wait = min(2 * self._empty_wait, _EMPTY_WAIT_SECONDS[1])
            limit = self._options.exit_when_empty
            if limit is not None and not self._jobs and time.monotonic() >= self._idle_since + limit:
                self._stop("no task left")
            return
        self._empty_wait = _EMPTY_WAIT_SECONDS[0]
        for task in tasks:
            self._reports.hold(task)
            if self._is_stopping or len(self._jobs) >= self._pool.places:
                self._reports.report(task, Ending("released"))
                continue
            self._taken += 1
            self._jobs[task.receipt] = _Job(task, time.monotonic())
            self._pool.start(task).add_done_callback(functools.partial(self._ended, task))

    # MARK: Outcomes

    def _ended(self, task: Task, future: asyncio.Future[Ending]) -> None:
        job = self._jobs.pop(task.receipt, None)
        self._changed.set()
        now = time.monotonic()
        if not self._jobs:
            self._idle_since = now
        if job is None or future.cancelled():
            return
        error = future.exception()
        outcome = Ending("failed", error=f"the worker failed: {error!r}") if error else future.result()
        if job.is_lost:
            return
        if self._is_giving_back and outcome.status != "done":
            # Its end is the worker's doing.
            outcome = Ending("released", name=outcome.name)
        self._count(task, outcome)
        self._reports.report(task, outcome)
        is_failure = outcome.status in ("failed", "dead")
        if outcome.status == "released":
            return
        if self._brake.note(is_failure=is_failure, task=task.id, begun_at=job.begun_at, now=now):
            if self._brake.is_on:
                logger.warning("%d tasks in a row have failed; trying one at a time, with pauses", THRESHOLD)
                self._end_wait()
            else:
                logger.info("a task has succeeded; working normally again")

    def _count(self, task: Task, outcome: Ending) -> None:
        subject = label(task, outcome.name)
        if outcome.status == "done":
            self._done += 1
            logger.debug("%s is done", subject)
        elif outcome.status == "released":
            self._released += 1
            logger.info("%s goes back to its queue%s", subject, _after(outcome))
        else:
            self._failed += 1
            text = outcome.error or "no reason was given"
            how = "is dead after" if outcome.status == "dead" else "has failed in"
            separator = "\n" if "\n" in text else " "
            reason = f"{_after(outcome)}:{separator}{text}"
            logger.warning("%s %s attempt %d%s", subject, how, task.attempt, reason)

    def _lose(self, task: Task) -> None:
        if job := self._jobs.get(task.receipt):
            job.is_lost = True
        logger.warning("%s has lost its lease, or somebody has cancelled it", label(task, None))
        self._pool.abandon(task)

    # MARK: Stopping

    def _install_signals(self, loop: asyncio.AbstractEventLoop) -> dict[signal.Signals, Any]:
        """Handles signals, and returns how they were handled before."""
        handlers: dict[signal.Signals, Any] = {}
        if not self._options.handles_signals or threading.current_thread() is not threading.main_thread():
            return handlers
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            number: signal.Signals | None = getattr(signal, name, None)
            if number is None:
                continue
            before = signal.getsignal(number)
            try:
                loop.add_signal_handler(number, self._on_signal, name)
            except NotImplementedError:
                # As on Windows, where Ctrl-C cancels this coroutine.
                break
            handlers[number] = signal.SIG_DFL if before is None else before
        return handlers

    def _on_signal(self, name: str) -> None:
        if self._asked_at is not None:
            # A terminal that ends does not ask to hurry.
            if name != "SIGHUP":
                self._is_forced = True
                self._changed.set()
            return
        self._asked_at = time.monotonic()
        count = len(self._jobs)
        detail = ""
        if count:
            tasks, have, them = ("task", "has", "it") if count == 1 else ("tasks", "have", "them")
            grace = f"{self._options.grace:g} s"
            detail = f": {count} {tasks} in work {have} {grace} to end; a second signal gives {them} back"
        self._stop(f"asked to stop{detail}")

    def _stop(self, reason: str, status: int | None = None) -> None:
        if self._is_stopping and self._asked_at is None:
            return
        if status is None:
            logger.info("%s", reason)
        else:
            self._status = status
            logger.error("%s", reason)
        self._is_stopping = True
        self._changed.set()
        self._end_wait()

    def _end_wait(self) -> None:
        """Ends the wait for tasks. The client gives back what the wait has taken."""
        self._wait_is_unwanted = True
        if self._wait is not None:
            self._wait.cancel()

    async def _finish(self) -> None:
        """Lets functions end, for as long as they may, and reports all outcomes."""
        while self._jobs and not self._is_forced:
            self._changed.clear()
            left = None
            if self._asked_at is not None:
                left = self._asked_at + self._options.grace - time.monotonic()
                if left <= 0:
                    break
            await self._sleep(left)
        if self._jobs:
            await self._give_back()
        await self._flush()

    async def _give_back(self) -> None:
        """Ends what can be ended, and gives the tasks back."""
        count = len(self._jobs)
        logger.warning("giving %d %s back", count, "task" if count == 1 else "tasks")
        self._is_giving_back = True
        for job in self._jobs.values():
            # A thread cannot be ended, but it can look.
            job.task.lost = True
            self._pool.interrupt(job.task)
        seconds = _LAST_INTERRUPTION_SECONDS if self._is_forced else _INTERRUPTION_SECONDS
        until = time.monotonic() + (seconds if self._pool.can_interrupt else 0)
        while self._jobs and (left := until - time.monotonic()) > 0:
            self._changed.clear()
            await self._sleep(left)
        for job in self._jobs.values():
            if not job.is_lost:
                self._released += 1
                self._reports.report(job.task, Ending("released"))
        self._jobs.clear()

    async def _flush(self) -> None:
        """Waits until the server knows the outcomes. Gives up only after a signal, or if the server refuses the
        worker."""
        while self._reports.waiting:
            is_bounded = self._asked_at is not None or self._status != DONE
            limit = _LAST_REPORT_SECONDS if self._is_forced else _REPORT_SECONDS if is_bounded else None
            if limit is not None:
                await self._reports.flush(limit)
                break
            await self._reports.flush(1)
        if waiting := self._reports.waiting:
            tasks, they, come = ("task", "it", "comes") if waiting == 1 else ("tasks", "they", "come")
            logger.warning("the outcome of %d %s could not be reported; %s %s back", waiting, tasks, they, come)
            self._status = self._status or FAILED

    def _summary(self) -> str:
        counts = [(self._done, "done"), (self._failed, "failed"), (self._released, "given back")]
        return ", ".join(f"{count} {name}" for count, name in counts if count or name == "done")

    # MARK: The server

    def _note_away(self, error: Error) -> None:
        if not self._is_away:
            self._is_away = True
            logger.warning("%s; trying again", error)

    def _note_back(self) -> None:
        if self._is_away:
            self._is_away = False
            logger.info("the server answers again")
        self._changed.set()

    def _refused(self, error: Error) -> None:
        if not self._is_stopping:
            self.error = error
            is_forbidden = isinstance(error, (Unauthorized, Forbidden))
            self._stop(f"the server refuses: {error}", NOT_ALLOWED if is_forbidden else WRONG)

    def _note_end_of_reports(self, reporting: asyncio.Future[None]) -> None:
        if not reporting.cancelled() and (error := reporting.exception()):
            logger.error("the worker failed", exc_info=error)
            self._is_forced = True
            self.error = RuntimeError("the worker failed")
            self._stop("the worker failed", FAILED)

    async def _sleep(self, seconds: float | None, until_stop: bool = False) -> None:
        """Waits until something changes, or for so long. With `until_stop`, only the stop ends it early."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except asyncio.TimeoutError:
                return
            if not until_stop or self._is_stopping:
                return
            self._changed.clear()


def _after(outcome: Ending) -> str:
    return "" if outcome.after is None else f" (again after {outcome.after:g} s)"
