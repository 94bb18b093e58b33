"""Runs the function that a task calls, and says how the attempt has ended."""

from __future__ import annotations

import asyncio
import logging
import os
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ._content import Call, NotACall, result_of
from ._task import Dead, Release, Retry, bounded_error, description

if TYPE_CHECKING:
    from ._app import App
    from ._function import TaskFunction
    from ._task import Task

logger = logging.getLogger("emq.worker")

# The longest pause before a task that this worker does not know comes again.
_LONGEST_PAUSE_SECONDS = 60.0

_OWN_FILES = tuple(os.path.join(os.path.dirname(file), "") for file in (__file__, asyncio.__file__))

_current: ContextVar[Task | None] = ContextVar("emq_task", default=None)


class Ending(NamedTuple):
    """How an attempt has ended: it is JSON, so that it can come from another process."""

    status: Literal["done", "failed", "dead", "released"]
    result: Any = None
    error: str | None = None
    after: float | None = None
    name: str | None = None
    """The name of the function."""


def label(task: Task, name: str | None) -> str:
    """What log lines call a task."""
    return f"task {task.id} ({name})" if name else f"task {task.id}"


def current_task() -> Task:
    """The task that the calling function was started for by a worker: its `id`, `attempt`, `metadata` and so on, and
    whether its lease is `lost`. Raises RuntimeError if the function was called in another way."""
    task = _current.get()
    if task is None:
        raise RuntimeError("no worker runs this function for a task")
    return task


def run(app: App, task: Task) -> Ending:
    """Runs the function of a task in this thread, a coroutine in a loop of its own. Raises nothing."""
    try:
        function, call = app.function_for(task.content)
    except BaseException as error:
        return _not_found(task, error)
    token = _current.set(task)
    try:
        value = function.function(*call.args, **call.kwargs)
        if asyncio.iscoroutine(value):
            value = asyncio.run(value)
        return _done(function, value, task)
    except BaseException as error:
        return _ended(function, call, error)
    finally:
        _current.reset(token)


async def run_async(app: App, task: Task) -> Ending:
    """Runs the coroutine of a task in this loop. Raises nothing but the CancelledError of its own cancellation."""
    try:
        function, call = app.function_for(task.content)
    except BaseException as error:
        return _not_found(task, error)
    _current.set(task)
    try:
        return _done(function, await function.function(*call.args, **call.kwargs), task)
    except asyncio.CancelledError as error:
        if task.lost:
            raise
        return _ended(function, call, error)
    except BaseException as error:
        return _ended(function, call, error)


def _done(function: TaskFunction[..., Any, Any], value: object, task: Task) -> Ending:
    if task.lost:
        # It may have returned only because it was told to stop, with its work half done.
        return Ending("released", name=function.name)
    try:
        return Ending("done", result_of(value, function.name), name=function.name)
    except TypeError as error:
        # The work is done. Another attempt would do it again, and end in the same way.
        return Ending("dead", error=f"TypeError: {error}", name=function.name)


def _not_found(task: Task, error: BaseException) -> Ending:
    """What becomes of a task whose function cannot be found, or whose module cannot be imported."""
    # While a new version is rolled out, its workers need time to come and take the task.
    pause = min(_LONGEST_PAUSE_SECONDS, 2.0 ** min(task.attempt, 10))
    text = f"NotACall: {error}" if isinstance(error, NotACall) else description(error)
    return Ending("failed", error=bounded_error(text), after=pause)


def _ended(function: TaskFunction[..., Any, Any], call: Call, error: BaseException) -> Ending:
    name = function.name
    if isinstance(error, Retry):
        return Ending("failed", error=_reason(error), after=error.after, name=name)
    if isinstance(error, Dead):
        return Ending("dead", error=_reason(error), name=name)
    if isinstance(error, Release):
        return Ending("released", error=_reason(error), after=error.after, name=name)
    # The frames of this library tell nothing.
    error.__traceback__ = _user_frames(error.__traceback__)
    return Ending("failed", error=bounded_error(description(error)), name=name)


def _reason(error: BaseException) -> str | None:
    """What the function has said, or else what made it say that."""
    cause = error.__cause__ or error.__context__
    text = str(error)
    if not text and cause is not None:
        text = description(cause)
    return bounded_error(text)


def _user_frames(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the function on; all of it if the function was not even called."""
    rest = frames
    while rest is not None and rest.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        rest = rest.tb_next
    return rest or frames
