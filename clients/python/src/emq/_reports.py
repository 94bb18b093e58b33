"""What a worker tells the server about its tasks: that it still works on them, and how they have ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from . import _calls as calls
from ._async_client import AsyncClient
from ._errors import Error, Forbidden, ServerError, Unauthorized, Unavailable
from ._execution import Ending, label, logger
from ._leases import extension_seconds
from ._task import Task

_MAXIMUM_BATCH = 100
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_SHORTEST_TOUCH_SECONDS = 0.02


def is_away(error: Error) -> bool:
    """Whether the same request may succeed later."""
    return not isinstance(error, ServerError) or isinstance(error, Unavailable) or error.status in (408, 425)


class Pauses:
    """Growing pauses, with jitter, while the server is away."""

    def __init__(self) -> None:
        self._next = _FIRST_PAUSE_SECONDS

    def next(self) -> float:
        """The next pause in seconds."""
        pause = self._next
        self._next = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return pause * random.uniform(0.5, 1)


class _Report(NamedTuple):
    task: Task
    outcome: Ending


class Reports:
    """Extends the leases of tasks until their outcomes have been reported, however long the server is away.

    Outcomes go in batches: those that come while a request is under way are together in the next one.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        lost: Callable[[Task], None],
        away: Callable[[Error], None],
        back: Callable[[], None],
        refused: Callable[[Error], None],
    ) -> None:
        self._client = client
        self._lost, self._away, self._back, self._refused = lost, away, back, refused
        # By receipt: the task, and when its lease is to be extended.
        self._held: dict[str, tuple[Task, float]] = {}
        self._pending: list[_Report] = []
        # What a request under way reports.
        self._sending: list[_Report] = []
        self._changed = asyncio.Event()
        self._reported = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """How many outcomes the server does not know yet."""
        return len(self._pending) + len(self._sending)

    def hold(self, task: Task) -> None:
        """Extends the lease of a task from now on."""
        self._held[task.receipt] = (task, time.monotonic() + _touch_interval(task))
        self._changed.set()

    def report(self, task: Task, outcome: Ending) -> None:
        """Reports an outcome, and goes on extending the lease until that is done."""
        self._pending.append(_Report(task, outcome))
        self._idle.clear()
        self._reported.set()

    async def run(self) -> None:
        """Does its work until it is cancelled."""
        sending = asyncio.ensure_future(self._send())
        try:
            await self._keep()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def flush(self, timeout: float) -> None:
        """Waits until the server knows all outcomes, for at most so many seconds."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except asyncio.TimeoutError:
            pass

    # MARK: Leases

    async def _keep(self) -> None:
        pauses = Pauses()
        while True:
            self._changed.clear()
            now = time.monotonic()
            nearest = min((due for _, due in self._held.values()), default=None)
            if nearest is None or nearest > now:
                await _wait_for(self._changed, None if nearest is None else nearest - now)
                continue
            # Those that are due soon come along.
            due = [task for task, at in self._held.values() if at <= now + _touch_interval(task) / 4]
            try:
                # While this request is under way, others may become due.
                timeout = extension_seconds((task for task, _ in self._held.values()), self._client.timeout)
                touched = await self._client.run(calls.touch(due), timeout=timeout)
            except Error as error:
                if not is_away(error):
                    self._refused(error)
                self._away(error)
                await asyncio.sleep(min(pauses.next(), min(_touch_interval(task) for task in due)))
                continue
            pauses = Pauses()
            missing = frozenset(touched["missing"])
            reported = {report.task.receipt for report in (*self._pending, *self._sending)}
            for task in due:
                # It may have been reported meanwhile.
                if task.receipt not in self._held:
                    continue
                if task.receipt in missing:
                    del self._held[task.receipt]
                    if task.receipt not in reported:
                        task.lost = True
                        self._lost(task)
                else:
                    self._held[task.receipt] = (task, now + _touch_interval(task))

    # MARK: Outcomes

    async def _send(self) -> None:
        pauses = Pauses()
        while True:
            while not self._pending:
                self._idle.set()
                self._reported.clear()
                await self._reported.wait()
            self._sending, self._pending = self._pending[:_MAXIMUM_BATCH], self._pending[_MAXIMUM_BATCH:]
            try:
                await self._send_batch(list(self._sending))
                self._back()
                pauses = Pauses()
            except Error as error:
                self._away(error)
                await asyncio.sleep(pauses.next())
            finally:
                self._sending, self._pending = [], self._sending + self._pending

    async def _send_batch(self, batch: list[_Report]) -> None:
        """Reports outcomes. Those that are still in `_sending` afterwards have to be reported again. Raises an error if
        the server is away."""
        done = [report for report in batch if report.outcome.status == "done"]
        if done:
            pairs = [(report.task, report.outcome.result) for report in done]
            await self._settle(done, lambda: self._client.ack_each(pairs))
        # Tasks that are refused in the same way share a request, such as those that are given back at the end.
        groups: dict[tuple[object, ...], list[_Report]] = {}
        for report in batch:
            if report.outcome.status != "done":
                outcome = report.outcome
                groups.setdefault((outcome.status, outcome.error, outcome.after), []).append(report)
        for group in groups.values():
            outcome, tasks = group[0].outcome, [report.task for report in group]

            def refuse(outcome: Ending = outcome, tasks: list[Task] = tasks) -> Coroutine[Any, Any, Any]:
                is_released, is_dead = outcome.status == "released", outcome.status == "dead"
                return self._client.nak(tasks, outcome.error, delay=outcome.after, dead=is_dead, release=is_released)

            await self._settle(group, refuse)

    async def _settle(self, reports: list[_Report], send: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            answer = await send()
        except (Error, TypeError, ValueError) as error:
            if isinstance(error, Error) and is_away(error):
                raise
            if isinstance(error, (Unauthorized, Forbidden)):
                # Somebody may give the token its permission back while the worker stops.
                self._refused(error)
                raise
            if len(reports) == 1:
                return self._give_up(reports[0], error)
            for report in reports:
                await self._send_batch([report])
            return
        missing = frozenset(answer["missing"])
        for report in reports:
            self._end(report)
            if report.task.receipt in missing:
                report.task.lost = True
                logger.warning(
                    "%s was reported as %s, but it had lost its lease before, or somebody had cancelled it",
                    label(report.task, report.outcome.name),
                    report.outcome.status,
                )

    def _end(self, report: _Report) -> None:
        self._sending.remove(report)
        self._held.pop(report.task.receipt, None)

    def _give_up(self, report: _Report, error: Exception) -> None:
        if report.outcome.status == "done":
            # The work is done. Another attempt would do it again, and end in the same way.
            outcome = Ending("dead", error=f"the server refuses the result: {error}", name=report.outcome.name)
            self._sending[self._sending.index(report)] = _Report(report.task, outcome)
        elif report.outcome.after is not None:
            # The pause may be what the server does not take.
            logger.error("the server refuses the pause of %s: %s", label(report.task, report.outcome.name), error)
            self._sending[self._sending.index(report)] = _Report(report.task, report.outcome._replace(after=None))
        else:
            logger.error("the server refuses the outcome of %s: %s", label(report.task, report.outcome.name), error)
            self._end(report)


def _touch_interval(task: Task) -> float:
    return max(_SHORTEST_TOUCH_SECONDS, task.lease / 3)


async def _wait_for(event: asyncio.Event, timeout: float | None) -> None:
    try:
        await asyncio.wait_for(event.wait(), timeout)
    except asyncio.TimeoutError:
        pass
