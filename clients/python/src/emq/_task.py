"""A task that a worker holds, and how its work may end."""

from __future__ import annotations

import os
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any

from ._json import Duration, seconds

MAXIMUM_ERROR_BYTES = 10_000


class Outcome(Exception):
    """The base of what work raises to say how its task ends. It is no `emq.Error`: nothing of the client has failed."""


class Retry(Outcome):
    """Raised in the work: the attempt has failed, and the next one follows.

    - `reason`: the error that the server shows with the task
    - `after`: the pause before the next attempt, in seconds or as a timedelta; without it, the task's backoff holds
    """

    def __init__(self, reason: str = "", *, after: Duration | None = None) -> None:
        super().__init__(reason)
        self.after = None if after is None else _pause(after)


class Dead(Outcome):
    """Raised in the work: the task has failed for good. It is dead at once, whatever retries are left."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)


class Release(Outcome):
    """Raised in the work: the task goes back to its queue. This counts neither as a retry nor as an attempt.

    - `after`: how long to put the task off, in seconds or as a timedelta; without it, any worker may get it at once
    """

    def __init__(self, reason: str = "", *, after: Duration | None = None) -> None:
        super().__init__(reason)
        self.after = None if after is None else _pause(after)


def _pause(after: Duration) -> float:
    value = after.total_seconds() if isinstance(after, timedelta) else seconds(after, "after")
    if value < 0:
        raise ValueError("after is negative")
    return value


class BlockingHolder(ABC):
    """What holds the tasks of a `Client`: it extends their leases, and reports what became of them."""

    @abstractmethod
    def begin(self, task: Task) -> None:
        """The work on a task begins."""

    @abstractmethod
    def finish(self, task: Task, error: BaseException | None) -> bool:
        """The work has ended. Returns whether the error is dealt with."""


class AsyncHolder(ABC):
    """What holds the tasks of an `AsyncClient`."""

    @abstractmethod
    async def begin(self, task: Task) -> None:
        """The work on a task begins."""

    @abstractmethod
    async def finish(self, task: Task, error: BaseException | None) -> bool:
        """The work has ended. Returns whether the error is dealt with."""


class Task:
    """A task that you hold, from `wait` or `tasks`.

    `with task:` (`async with task:` for an `AsyncClient`) does the rest: it extends the lease while its body runs, and
    acknowledges the task at its end, with `task.result` if you set that. If the body raises an exception, the task is
    refused with the traceback as its error; the exception is logged and goes no further, so that a loop over tasks
    goes on. `emq.Retry`, `emq.Dead` and `emq.Release` say how else the task ends. KeyboardInterrupt, SystemExit,
    CancelledError and GeneratorExit give the task back, and go on.

    If the lease is lost, because it ran out or somebody cancelled the task, `task.lost` becomes true, and the end of
    the body reports nothing. `async with` also cancels its body then.
    """

    __slots__ = (
        "id", "queue", "content", "attempt", "lease", "receipt", "key", "metadata", "request_id", "traceparent",
        "result", "log", "lost", "leased_at", "_holder", "_process",
    )  # fmt: skip

    def __init__(self, record: dict[str, Any], holder: object = None) -> None:
        get = record.get
        self.id: str = record["id"]
        self.queue: str = record["queue"]
        self.content: Any = get("content")
        self.attempt: int = record["attempt"]
        """1 at the first dispatch; a dispatch that ended in a release does not count."""
        self.lease: float = record["retry"]
        """The lease in seconds."""
        self.receipt: str = record["receipt"]
        """What stands for this dispatch of the task."""
        self.key: str | None = get("key")
        self.metadata: dict[str, str] = get("metadata") or {}
        self.request_id: str | None = get("request_id")
        self.traceparent: str | None = get("traceparent")
        self.result: Any = None
        """What to acknowledge the task with, at the end of `with task:`: any JSON value; None for no result."""
        self.log: str | None = None
        """The end of what the work printed, to keep with the task; up to 65,536 bytes."""
        self.lost = False
        """Whether the lease is lost: another worker may have the task."""
        self.leased_at = time.monotonic()
        """When the client last heard that the lease began or was extended, by `time.monotonic`."""
        self._holder = holder
        self._process = os.getpid()

    def __repr__(self) -> str:
        lost = ", lost" if self.lost else ""
        return f"<emq.Task {self.id} of {self.queue!r}, attempt {self.attempt}{lost}>"

    def __enter__(self) -> Task:
        if not isinstance(self._holder, BlockingHolder):
            raise TypeError("the task is not from a Client; write 'async with' if it is from an AsyncClient")
        self._holder.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert isinstance(self._holder, BlockingHolder)
        # A process that was forked in the body has only a copy of the task.
        return self._holder.finish(self, error) if self._process == os.getpid() else False

    async def __aenter__(self) -> Task:
        if not isinstance(self._holder, AsyncHolder):
            raise TypeError("the task is not from an AsyncClient; write 'with' if it is from a Client")
        await self._holder.begin(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert isinstance(self._holder, AsyncHolder)
        return await self._holder.finish(self, error) if self._process == os.getpid() else False


class TakenTasks(list[Task]):
    """The tasks that a wait has taken."""

    missing: Sequence[str] = ()
    """Those of `ack` that were not dispatched any more."""


def bounded_error(text: str) -> str | None:
    """An error's text as /nak takes it: at most 10,000 bytes. None for an empty one.

    What is too long is cut in the middle: the server groups tracebacks by their first and last lines.
    """
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > MAXIMUM_ERROR_BYTES:
        half = MAXIMUM_ERROR_BYTES // 2 - 10
        start, end = data[:half].decode("utf-8", "ignore"), data[-half:].decode("utf-8", "ignore")
        return f"{start}\n…\n{end}"
    return data.decode("utf-8") or None


def description(error: BaseException) -> str:
    """The traceback of an exception, for the server to show, and to group by its last line."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip("\n")
    name = "".join(traceback.format_exception_only(type(error), error)).strip("\n")
    first = next((line for line in name.split("\n") if line.strip()), type(error).__name__)
    # Notes, messages of several lines and groups of exceptions end in a line that tells less.
    if text.startswith("Traceback (most recent call last):\n") and text.rpartition("\n")[2] == first:
        return text
    return f"{first}\n{text}"
