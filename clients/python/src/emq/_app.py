"""Functions as tasks: `App` turns functions into tasks that a worker runs (`python -m emq work module:app`)."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar, cast, overload

from ._async_client import AsyncClient
from ._client import Client
from ._content import Call, NotACall, decode, encode
from ._handle import Handle
from ._new_task import NewTask

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._json import Duration, Time
    from ._types import Backoff, Enqueued, OnConflict

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class FunctionOptions(TypedDict, total=False):
    """What `@app.task` may say about the tasks of a function; `docs/api.md` explains each option under /enqueue. What is
    not said here, the queue's configuration says."""

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
_OPTIONS_OF_ONE_CALL = _OPTIONS - FunctionOptions.__annotations__.keys()


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
        _check_options(options)
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


class App:
    """The tasks of a program: functions by their names, and the server that their tasks go to.

    - `client`: an `emq.Client`, or the server's URL. By default, `EMQ_URL` names the server, and the client is made
      when it is first needed. With a client, asyncio uses the same server and token.
    - `token`, `ca`: those of `emq.Client`, if `client` is none.
    """

    def __init__(
        self, client: Client | str | None = None, *, token: str | None = None, ca: str | os.PathLike[str] | None = None
    ) -> None:
        if isinstance(client, Client) and (token is not None or ca is not None):
            raise TypeError("the client has its own token and ca; leave these arguments out")
        self._given = client if isinstance(client, Client) else None
        self._url = client if isinstance(client, str) else None
        self._token, self._ca = token, ca
        self._functions: dict[str, TaskFunction[..., Any, Any]] = {}
        self._lock = threading.Lock()
        self._made: tuple[object, Client] | None = None
        self._made_async: dict[asyncio.AbstractEventLoop, tuple[object, AsyncClient]] = {}

    # MARK: Functions

    def task(
        self, function: None = None, /, *, name: str | None = None, **options: Unpack[FunctionOptions]
    ) -> TaskDecorator:
        """Makes a function a task: `@app.task(queue="mail", max_retries=5)`.

        - `name`: what the function is called in the content of its tasks; by default its module and qualified name.
          Raises ValueError if another function of this app has the name.
        - `queue`: the queue of its tasks; by default `default`.

        The other options are defaults for those of `Client.enqueue`.
        """
        if function is not None:
            raise TypeError("write @app.task() with parentheses, and the queue as queue=…")
        for option in _OPTIONS_OF_ONE_CALL.intersection(options):
            raise TypeError(f"{option} belongs to one call: use options({option}=…).enqueue(…)")
        _check_options(options)
        return TaskDecorator(self, name, cast("TaskOptions", options))

    @property
    def functions(self) -> Mapping[str, TaskFunction[..., Any, Any]]:
        """The functions of the app by their names."""
        return MappingProxyType(self._functions)

    @property
    def queues(self) -> list[str]:
        """The queues of the functions' tasks, each once, in the order of the functions."""
        return list(dict.fromkeys(function.queue for function in self._functions.values()))

    def function_for(self, content: object) -> tuple[TaskFunction[..., Any, Any], Call]:
        """The function that the content of a task calls, and how. Raises NotACall if there is none."""
        call = decode(content)
        function = self._functions.get(call.name)
        if function is None:
            names = ", ".join(sorted(self._functions)) or "none"
            raise NotACall(f"this worker has no task {call.name!r}; it has: {names}")
        return function, call

    def register(self, function: TaskFunction[..., Any, Any]) -> None:
        """Adds a function. Raises ValueError if another one has its name."""
        with self._lock:
            other = self._functions.get(function.name)
            if other is not None:
                raise ValueError(
                    f"there are two tasks {function.name!r}: {_place_of(other.function)} and "
                    f"{_place_of(function.function)}; give one of them another name=…"
                )
            self._functions[function.name] = function

    # MARK: Clients

    @property
    def client(self) -> Client:
        """The client that `enqueue` uses. Made when it is first needed, and again if `EMQ_URL` or `EMQ_TOKEN` change."""
        if self._given is not None:
            return self._given
        with self._lock:
            key = self._client_key()
            if self._made is None or self._made[0] != key:
                if self._made is not None:
                    self._made[1].close()
                self._made = (key, Client(self._url, token=self._token, ca=self._ca))
            return self._made[1]

    @property
    def async_client(self) -> AsyncClient:
        """The client that `enqueue_async` uses: one for each event loop. Use it only where one runs."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for other in [other for other in self._made_async if other.is_closed()]:
                del self._made_async[other]
            key = self._client_key()
            made = self._made_async.get(loop)
            if made is None or made[0] != key:
                made = self._made_async[loop] = (key, self.new_async_client())
            return made[1]

    def new_async_client(self) -> AsyncClient:
        """A new client for asyncio, for the same server with the same token. Close it when you are done."""
        if self._given is not None:
            return self._given.asynchronous()
        return AsyncClient(self._url, token=self._token, ca=self._ca)

    def _client_key(self) -> tuple[object, ...]:
        environment = () if self._url is not None else (os.environ.get("EMQ_URL"),)
        return (*environment, os.environ.get("EMQ_TOKEN"))


class TaskDecorator:
    """What `@app.task(…)` is: it makes a function a `TaskFunction`."""

    def __init__(self, app: App, name: str | None, options: TaskOptions) -> None:
        self._app, self._name, self._options = app, name, options

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, T]]
    ) -> TaskFunction[P, Coroutine[Any, Any, T], T]: ...

    @overload
    def __call__(self, function: Callable[P, T]) -> TaskFunction[P, T, T]: ...

    def __call__(self, function: Callable[..., Any]) -> TaskFunction[..., Any, Any]:
        if not inspect.isfunction(function):
            raise TypeError(f"{function!r} is no function")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} is a generator, which cannot be a task")
        made = TaskFunction(self._app, function, self._name or _name_of(function), self._options)
        self._app.register(made)
        return made


def _check_options(options: Mapping[str, Any]) -> None:
    for option in options:
        if option not in _OPTIONS:
            raise TypeError(f"there is no option {option!r}; there are: {', '.join(sorted(_OPTIONS))}")
    queue = options.get("queue", "default")
    if not isinstance(queue, str) or not queue:
        raise TypeError(f"queue must be the name of a queue, not {queue!r}")


def _name_of(function: Callable[..., Any]) -> str:
    module = function.__module__
    if module == "__main__":
        # A worker imports the program by its name.
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        if spec is not None:
            module = spec.name.removesuffix(".__main__")
        elif file:
            module = os.path.splitext(os.path.basename(file))[0]
    return f"{module}.{function.__qualname__}"


def _place_of(function: Callable[..., Any]) -> str:
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}"
