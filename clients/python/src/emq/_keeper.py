"""What extends the leases of the tasks that a `Client` holds: one thread for all of them, while there are any."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Protocol, TypeVar

from . import _calls as calls
from ._call import Call
from ._errors import Error
from ._leases import Leases, extension_seconds, is_interruption, logger, now, report, report_seconds, reported
from ._leases import second_report
from ._task import BlockingHolder, Task

T = TypeVar("T")

_LINGERS = 2.0
"""How many seconds the thread stays without a task."""

_INTERRUPTED_SECONDS = 2.0
"""For how long an interrupted program tries to give its task back."""


class Runner(Protocol):
    """What carries calls to the server."""

    @property
    def timeout(self) -> float:
        """How many seconds a call may take in all."""
        ...

    def run(
        self, call: Call[T], *, timeout: float | None = None, tries: int | None = None, each: float | None = None
    ) -> T:
        """Does a call."""
        ...


class Keeper(BlockingHolder):
    """Extends leases, and reports what became of tasks."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.reset()

    def reset(self) -> None:
        """Forgets all tasks, in a process that has them only because it was forked."""
        # The handler of a signal may close the client while its thread is in here.
        self._changed = threading.Condition(threading.RLock())
        self._leases = Leases()
        self._waiting: dict[str, Task] = {}
        self._wakes_at = 0.0
        self._thread: threading.Thread | None = None

    def hold(self, tasks: Iterable[Task]) -> None:
        """Holds tasks whose work has not begun yet."""
        tasks = list(tasks)
        self._waiting.update((task.receipt, task) for task in tasks)
        for task in tasks:
            self._add(task)

    def hand_out(self, task: Task) -> bool:
        """Holds a task no more, for its work begins. Returns whether the task is still there."""
        with self._changed:
            self._leases.remove(task)
            return self._waiting.pop(task.receipt, None) is not None and not task.lost

    def release_waiting(self, tasks: Iterable[Task] | None = None) -> None:
        """Gives back tasks whose work has not begun; all of them by default."""
        with self._changed:
            chosen = list(self._waiting.values()) if tasks is None else list(tasks)
            chosen = [task for task in chosen if self._waiting.pop(task.receipt, None) and not task.lost]
            for task in chosen:
                self._leases.remove(task)
        if chosen:
            try:
                self._runner.run(calls.nak(chosen, release=True), timeout=self._runner.timeout)
            except Error as error:
                logger.warning("cannot give %d tasks back; they come when their leases end: %s", len(chosen), error)

    def begin(self, task: Task) -> None:
        self._add(task)

    def finish(self, task: Task, error: BaseException | None) -> bool:
        with self._changed:
            self._leases.remove(task)
        interrupted = is_interruption(error)
        if task.lost:
            if error is not None and not interrupted:
                logger.error("%r failed after its lease was lost", task, exc_info=error)
            return not interrupted
        runner = self._runner
        call = report(task, error)
        if interrupted:
            timeout, tries = min(_INTERRUPTED_SECONDS, runner.timeout), None
        else:
            timeout, tries = report_seconds(task, runner.timeout), 1_000_000
        each = extension_seconds([task], runner.timeout)
        try:
            reported(task, runner.run(call, timeout=timeout, tries=tries, each=each)["missing"])
        except Error as problem:
            second = second_report(task, error, problem)
            if second is not None:
                try:
                    runner.run(second, timeout=timeout, each=each)
                except Error as other:
                    second_report(task, error, other)
        return not interrupted

    def _add(self, task: Task) -> None:
        with self._changed:
            due = self._leases.add(task, now())
            if self._thread is None:
                thread = threading.Thread(target=self._keep, name="emq-leases", daemon=True)
                try:
                    thread.start()
                except BaseException:
                    # Another task may find room for a thread.
                    self._leases.remove(task)
                    raise
                self._thread = thread
            elif due < self._wakes_at:
                self._changed.notify()

    def _keep(self) -> None:
        """Extends leases until there have been none for a while."""
        changed = self._changed
        while True:
            with changed:
                time = now()
                due = self._leases.next_due()
                if due is None or due > time:
                    # Nobody says when there is no task any more, and the thread keeps the client alive.
                    self._wakes_at = min(time + _LINGERS, due or math.inf)
                    woken = changed.wait(self._wakes_at - time)
                    if due is None and not woken and not len(self._leases):
                        self._thread = None
                        return
                    continue
                tasks = self._leases.take_due(time)
                # While this request is under way, others may become due.
                timeout = extension_seconds(self._leases.all(), self._runner.timeout)
            self._extend(tasks, timeout)

    def _extend(self, tasks: list[Task], timeout: float) -> None:
        missing: list[str] | None = None
        try:
            missing = self._runner.run(calls.touch(tasks), timeout=timeout)["missing"]
        except Error as error:
            logger.warning("cannot extend leases: %s", error)
        except Exception:
            logger.exception("cannot extend leases")
        with self._changed:
            if missing is None:
                self._leases.postpone(tasks, now())
            else:
                self._leases.extended(tasks, missing, now())
