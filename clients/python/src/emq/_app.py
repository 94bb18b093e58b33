"""Functions as tasks: `App` turns functions into tasks that a worker runs (`python -m emq work module:app`)."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast, overload

from ._async_client import AsyncClient
from ._client import Client
from ._content import Call, NotACall, decode
from ._function import OPTIONS_OF_ONE_CALL, FunctionOptions, TaskFunction, TaskOptions, check_options
from ._pools import LoopPool, ThreadPool
from ._worker import Worker
from ._worker_options import WorkerOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

P = ParamSpec("P")
T = TypeVar("T")


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
        for option in OPTIONS_OF_ONE_CALL.intersection(options):
            raise TypeError(f"{option} belongs to one call: use options({option}=…).enqueue(…)")
        check_options(options)
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

    # MARK: Working

    def work(
        self,
        *,
        jobs: int = 1,
        pool: Literal["threads", "asyncio"] = "threads",
        queues: Sequence[str] | None = None,
        lease: float | None = None,
        grace: float = 25.0,
        exit_when_empty: bool | float = False,
        max_tasks: int | None = None,
        max_time: float | None = None,
    ) -> None:
        """Does tasks in this process, with the options of `python -m emq work`; durations are in seconds. In the main
        thread, it handles SIGTERM, SIGINT and SIGHUP. `app.work(exit_when_empty=True)` is for tests.

        Raises the error of a server that refuses the worker.
        """
        options = self._worker_options(jobs, queues, lease, grace, exit_when_empty, max_tasks, max_time)
        options.handles_signals = True
        asyncio.run(self._work(options, pool))

    async def work_async(
        self,
        *,
        jobs: int = 1,
        pool: Literal["threads", "asyncio"] = "asyncio",
        queues: Sequence[str] | None = None,
        lease: float | None = None,
        grace: float = 25.0,
        exit_when_empty: bool | float = False,
        max_tasks: int | None = None,
        max_time: float | None = None,
    ) -> None:
        """The same as `work`, in the running event loop, without signals. If it is cancelled, it gives its tasks back.
        Coroutines run in a loop of their own, as everywhere."""
        options = self._worker_options(jobs, queues, lease, grace, exit_when_empty, max_tasks, max_time)
        await self._work(options, pool)

    def _worker_options(
        self,
        jobs: int,
        queues: Sequence[str] | None,
        lease: float | None,
        grace: float,
        exit_when_empty: bool | float,
        max_tasks: int | None,
        max_time: float | None,
    ) -> WorkerOptions:
        if isinstance(queues, str):
            raise TypeError("queues must be a list of names")
        names: list[tuple[str, int | None]] = [(queue, None) for queue in queues or ()]
        names = names or [(queue, 1) for queue in self.queues]
        if not names:
            raise ValueError("the app has no tasks, so there is no queue to work on")
        if jobs < 1 or (max_tasks is not None and max_tasks < 1):
            raise ValueError("jobs and max_tasks must be at least 1")
        idle = None if exit_when_empty is False else float(exit_when_empty) if exit_when_empty is not True else 0.0
        return WorkerOptions(jobs, names, lease, grace, idle, max_tasks, max_time)

    async def _work(self, options: WorkerOptions, pool: str) -> None:
        if pool not in ("threads", "asyncio"):
            raise ValueError(f"pool must be threads or asyncio, not {pool!r}; for processes, use python -m emq work")
        worker = Worker(self, options, LoopPool if pool == "asyncio" else ThreadPool)
        await worker.run()
        if worker.error is not None:
            raise worker.error

    # MARK: Clients

    @property
    def client(self) -> Client:
        """The client that `enqueue` uses. It is made when it is first needed, and again if `EMQ_URL` or `EMQ_TOKEN`
        change."""
        if self._given is not None:
            return self._given
        with self._lock:
            key = self.environment_key()
            if self._made is None or self._made[0] != key or self._made[1].closed:
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
            key = self.environment_key()
            made = self._made_async.get(loop)
            if made is None or made[0] != key or made[1].closed:
                made = self._made_async[loop] = (key, self.new_async_client())
            return made[1]

    def close(self) -> None:
        """Closes the client that the app has made for `enqueue`, if any; the end of the program does so, too. Another
        one is made when it is needed again. A client that was passed to the app stays open."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made[1].close()

    def new_async_client(self) -> AsyncClient:
        """A new client for asyncio, for the same server with the same token. Close it when you are done."""
        if self._given is not None:
            return self._given.asynchronous()
        return AsyncClient(self._url, token=self._token, ca=self._ca)

    @staticmethod
    def environment_key() -> tuple[str | None, ...]:
        """What a client takes from the environment; when it changes, it is time for another client."""
        return os.environ.get("EMQ_URL"), os.environ.get("EMQ_TOKEN")


class TaskDecorator:
    """What `@app.task(…)` is: it makes a function a `TaskFunction`."""

    def __init__(self, app: App, name: str | None, options: TaskOptions) -> None:
        self._app, self._name, self._options = app, name, options

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]]
    ) -> TaskFunction[P, Coroutine[Any, Any, T], T]: ...

    @overload
    def __call__(self, function: Callable[P, T]) -> TaskFunction[P, T, T]: ...

    def __call__(self, function: Callable[..., Any]) -> TaskFunction[..., Any, Any]:
        if not inspect.isfunction(function):
            raise TypeError(f"{function!r} is not a function")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} is a generator, which cannot be a task")
        name = self._name or _name_of(function)
        made: TaskFunction[..., Any, Any] = TaskFunction(self._app, function, name, self._options)
        self._app.register(made)
        return made


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
