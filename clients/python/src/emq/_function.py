"""A function that can be a task: what `@app.task` makes of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar

from ._content import encode
from ._handle import Handle
from ._new_task import NewTask

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._app import App
    from ._json import Duration, Time
    from ._types import Backoff, Enqueued, OnConflict

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class FunctionOptions(TypedDict, total=False):
    """What `@app.task` may say about the tasks of a function; `Client.enqueue` explains each option. What is not said
    here, the queue's configuration says."""

    queue: str
    delay: Duration
    priority: int
    max_retries: int | None
    max_crashes: int | None
    backoff: float | Backoff
    unique_for: Duration
    on_conflict: OnConflict
    keep: Duration
    metadata: Mapping[str, str]
    lease: Duration
    expiry: Duration | None


class TaskOptions(FunctionOptions, total=False):
    """What `options` may say about one task."""

    eta: Time
    key: str


# A TypedDict's own annotations do not have those that it inherits, in Python 3.10.
_OPTIONS = FunctionOptions.__annotations__.keys() | TaskOptions.__annotations__.keys()
OPTIONS_OF_ONE_CALL = _OPTIONS - FunctionOptions.__annotations__.keys()


class BoundCall(Generic[T]):
    """A call of a function that `enqueue_many` can enqueue. `bind` of a task's function makes it."""

    __slots__ = ("content", "function", "options")

    def __init__(self, function: TaskFunction[..., Any, T], content: dict[str, Any], options: TaskOptions) -> None:
        self.function = function
        self.content = content
        self.options = options


class TaskFunction(Generic[P, R, T]):
    """A function that can be a task. Calling it runs it here and now; `enqueue` has a worker run it.

    `P` are its parameters, `R` is what a call returns, and `T` is the task's result: for `async def`, calls return a
    coroutine of the result.
    """

    def __init__(self, app: App, function: Callable[P, R], name: str, options: TaskOptions) -> None:
        functools.update_wrapper(self, function)
        self.app = app
        self.name = name
        """What the function is called in the content of its tasks."""
        self.function = function
        """The function itself."""
        self.is_async = inspect.iscoroutinefunction(function)
        self._signature = inspect.signature(function)
        self._options = options

    @property
    def queue(self) -> str:
        """The queue of the function's tasks."""
        return self._options.get("queue", "default")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the function here, without any task."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name} in queue {self.queue}>"

    def options(self, **options: Unpack[TaskOptions]) -> TaskFunction[P, R, T]:
        """The same function with other options, as in `send.options(delay=30).enqueue(to=1)`. `None` for an option that
        may be none is a value of its own: `max_retries=None` allows any number."""
        check_options(options)
        return TaskFunction(self.app, self.function, self.name, {**self._options, **options})

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> BoundCall[T]:
        """A call for `enqueue_many`. Raises TypeError or ValueError if the arguments do not fit the function, or do not
        survive JSON."""
        return BoundCall(self, self._content(args, kwargs), self._options)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[T]:
        """Enqueues a call of the function, and returns a handle with the task's `id`.

        Raises TypeError or ValueError if the arguments do not fit the function, or do not survive JSON: nothing is sent
        then. Raises the errors of `Client.enqueue`.
        """
        content = self._content(args, kwargs)
        client = self.app.client
        queue, options = self._split()
        enqueued = client.enqueue(queue, content, **options)
        return Handle(self.app, self.name, enqueued.id, enqueued.existing)

    async def enqueue_async(self, *args: P.args, **kwargs: P.kwargs) -> Handle[T]:
        """The same as `enqueue`, for asyncio."""
        content = self._content(args, kwargs)
        client = self.app.async_client
        queue, options = self._split()
        enqueued = await client.enqueue(queue, content, **options)
        return Handle(self.app, self.name, enqueued.id, enqueued.existing)

    def enqueue_many(self, calls: Iterable[BoundCall[T]]) -> list[Handle[T]]:
        """Enqueues many calls of this function by one request: `send.enqueue_many(send.bind(to=n) for n in range(9))`.
        Calls may have options of their own: `send.options(priority=5).bind(to=1)`. Either all are enqueued or none."""
        tasks = self._tasks(calls)
        if not tasks:
            return []
        return self._handles(self.app.client.enqueue_many(self.queue, tasks))

    async def enqueue_many_async(self, calls: Iterable[BoundCall[T]]) -> list[Handle[T]]:
        """The same as `enqueue_many`, for asyncio."""
        tasks = self._tasks(calls)
        if not tasks:
            return []
        return self._handles(await self.app.async_client.enqueue_many(self.queue, tasks))

    def _content(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        return encode(self.name, args, kwargs)

    def _split(self) -> tuple[str, dict[str, Any]]:
        options: dict[str, Any] = dict(self._options)
        return options.pop("queue", "default"), options

    def _tasks(self, calls: Iterable[BoundCall[T]]) -> list[NewTask]:
        tasks: list[NewTask] = []
        for call in calls:
            if call.function.name != self.name or call.function.app is not self.app:
                raise ValueError(f"this is a call of {call.function.name}; enqueue it with that function")
            options: dict[str, Any] = dict(call.options)
            queue = options.pop("queue", "default")
            if queue != self.queue:
                raise ValueError(f"a call for the queue {queue} is among those for {self.queue}; enqueue it by itself")
            tasks.append(NewTask(call.content, **options))
        return tasks

    def _handles(self, enqueued: Iterable[Enqueued]) -> list[Handle[T]]:
        return [Handle(self.app, self.name, item.id, item.existing) for item in enqueued]


def check_options(options: Mapping[str, Any]) -> None:
    for option in options:
        if option not in _OPTIONS:
            raise TypeError(f"there is no option {option!r}; there are: {', '.join(sorted(_OPTIONS))}")
    queue = options.get("queue", "default")
    if not isinstance(queue, str) or not queue:
        raise TypeError(f"queue must be the name of a queue, not {queue!r}")
