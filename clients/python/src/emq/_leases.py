"""Which leases to extend when, and how a task ends: what both clients share, without their threads and connections."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from . import _calls as calls
from ._call import Call
from ._errors import ConnectionFailed, Error, Timeout, Unavailable, UnexpectedAnswer
from ._task import Dead, Outcome, Release, Retry, Task, description

logger = logging.getLogger("emq")

PASSING_ERRORS = (ConnectionFailed, Timeout, Unavailable, UnexpectedAnswer)
"""Errors that pass when the server, or the way to it, is mended."""

LONGEST_REPORT = 300.0
"""For how many seconds the clients try at most to report what became of a task."""

MAXIMUM_BATCH = 1000
"""How many leases one request extends."""

_SHORTEST_INTERVAL = 0.05
_MAXIMUM_LOG_BYTES = 65_536


class Leases:
    """The tasks that a client holds, and when to extend their leases: each time a third of it is over.

    It is not safe for threads.
    """

    __slots__ = ("_due", "_tasks")

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._due: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task, now: float) -> float:
        """Holds a task from now on. Returns when its lease is due."""
        self._tasks[task.receipt] = task
        due = self._due[task.receipt] = max(now, task.leased_at + _interval(task))
        return due

    def remove(self, task: Task) -> None:
        """Holds a task no more."""
        self._tasks.pop(task.receipt, None)
        self._due.pop(task.receipt, None)

    def all(self) -> Iterable[Task]:
        """The tasks that are held."""
        return self._tasks.values()

    def next_due(self) -> float | None:
        """When the next lease is due; None without tasks."""
        return min(self._due.values(), default=None)

    def take_due(self, now: float) -> list[Task]:
        """The tasks whose leases to extend now, at most as many as a request takes.

        Those that are due soon are among them, so that one request serves many.
        """
        chosen: list[Task] = []
        for receipt, due in self._due.items():
            task = self._tasks[receipt]
            if due <= now + _interval(task) / 4:
                chosen.append(task)
                if len(chosen) == MAXIMUM_BATCH:
                    break
        return chosen

    def extending(self, tasks: Iterable[Task], now: float) -> None:
        """Tells that the leases of tasks are being extended, so that they are not due."""
        for task in tasks:
            if task.receipt in self._tasks:
                self._due[task.receipt] = now + _interval(task)

    def extended(self, tasks: Iterable[Task], missing: Sequence[str], now: float) -> list[Task]:
        """Tells that the leases of tasks were extended, but those of some. Returns the tasks that are lost."""
        gone = frozenset(missing)
        lost: list[Task] = []
        for task in tasks:
            if task.receipt not in self._tasks:
                # Its work has ended meanwhile, and so has its lease.
                continue
            if task.receipt in gone:
                self.remove(task)
                lose(task)
                lost.append(task)
            else:
                task.leased_at = now
                self._due[task.receipt] = now + _interval(task)
        return lost

    def postpone(self, tasks: Iterable[Task], now: float) -> None:
        """Tells that the leases of tasks could not be extended, so that they are due again soon."""
        for task in tasks:
            if task.receipt in self._tasks:
                self._due[task.receipt] = now + max(_SHORTEST_INTERVAL, min(1.0, _interval(task) / 4))


def _interval(task: Task) -> float:
    return max(task.lease / 3, _SHORTEST_INTERVAL)


def lose(task: Task) -> None:
    """Marks a task as lost, and says so."""
    task.lost = True
    logger.warning("%r: the lease is lost: it ran out, or somebody cancelled the task", task)


def extension_seconds(tasks: Iterable[Task], timeout: float) -> float:
    """How many seconds a try to extend leases, or to end them, may take: a dead connection must leave time for another
    one."""
    return min(timeout, max(1.0, min(task.lease for task in tasks) / 3))


def report_seconds(task: Task, timeout: float) -> float:
    """For how many seconds to try to report what became of a task: as long as its lease may last."""
    return max(timeout, min(task.lease, LONGEST_REPORT))


def is_interruption(error: BaseException | None) -> bool:
    """Whether an exception interrupts the program rather than tells a failure of the work."""
    return error is not None and not isinstance(error, Exception)


def report(task: Task, error: BaseException | None) -> Call[Any]:
    """The call that tells the server how the work on a task ended. Logs what failed."""
    if error is None:
        try:
            return calls.ack(task, task.result, log=_bounded_log(task))
        except (TypeError, ValueError) as problem:
            # The work is done. Another attempt would do it again, and end in the same way.
            logger.error("%r: dead, because its result is not JSON", task, exc_info=problem)
            return calls.nak(task, f"the result is not JSON: {problem}", dead=True)
    log = _bounded_log(task)
    if is_interruption(error):
        return calls.nak(task, release=True)
    if isinstance(error, Outcome):
        reason = str(error) or _cause(error)
        if isinstance(error, Retry):
            logger.warning("%r: retry%s", task, f": {reason}" if reason else "")
            return calls.nak(task, reason, delay=error.after, log=log)
        if isinstance(error, Release):
            logger.info("%r: released%s", task, f": {reason}" if reason else "")
            return calls.nak(task, reason, release=True, delay=error.after, log=log)
        if isinstance(error, Dead):
            logger.error("%r: dead%s", task, f": {reason}" if reason else "")
            return calls.nak(task, reason, dead=True, log=log)
    logger.error("%r failed", task, exc_info=error)
    return calls.nak(task, description(error), log=log)


def reported(task: Task, missing: Sequence[str]) -> None:
    """Notes the answer to a report."""
    if task.receipt in missing:
        lose(task)


def second_report(task: Task, error: BaseException | None, problem: Error) -> Call[Any] | None:
    """What to report after the server refused the first report, such as a result that is too large.

    `error` is how the work ended, and `problem` what the server says. None if no report can succeed.
    """
    if isinstance(problem, PASSING_ERRORS):
        task.lost = True
        logger.error("%r: cannot tell the server how the task ended, so the task comes again: %s", task, problem)
        return None
    logger.error("%r: the server does not accept how the task ended: %s", task, problem)
    # With a refused result, another attempt would do the work again, and end in the same way.
    return calls.nak(task, f"the server refuses how the task ended: {problem}", dead=error is None)


def now() -> float:
    """The time by which leases are counted."""
    return time.monotonic()


def _cause(error: BaseException) -> str:
    """What the work failed with before it raised an outcome."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return description(cause) if cause is not None else ""


def _bounded_log(task: Task) -> str | None:
    if task.log is None:
        return None
    data = str(task.log).encode("utf-8", "backslashreplace")
    return data[-_MAXIMUM_LOG_BYTES:].decode("utf-8", "ignore")
