"""The client for threads."""

from __future__ import annotations

import functools
import inspect
import os
import time
import weakref
from collections.abc import Callable, Generator, Iterable
from threading import Event as ThreadEvent
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from . import _calls as calls
from . import _calls_manage as manage
from ._call import Call, Failure, Pauses, Tries
from ._connections import Pool
from ._errors import ClientClosed, ConnectionFailed, Error, UnexpectedAnswer
from ._events import SILENCE_SECONDS, EventParser, events
from ._http import Response
from ._json import Duration
from ._keeper import Keeper
from ._leases import PASSING_ERRORS, logger
from ._iteration import iterate, sleep
from ._place import Place
from ._task import Task
from ._types_server import Event

if TYPE_CHECKING:
    from ._async_client import AsyncClient

P = ParamSpec("P")
T = TypeVar("T")

_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _blocking(function: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """A method of the client that does a call."""

    @functools.wraps(function)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(function(*args, **kwargs))

    describe(method, function, "Client")
    return method


def describe(method: Any, function: Callable[..., Any], owner: str) -> None:
    """Gives a method the signature of the function behind it, with `self`, and what its call returns."""
    signature = inspect.signature(function)
    returned = str(signature.return_annotation).removeprefix("Call[").removesuffix("]")
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *signature.parameters.values()]
    method.__signature__ = signature.replace(parameters=parameters, return_annotation=returned)
    method.__annotations__ = {**function.__annotations__, "return": returned}
    method.__qualname__ = f"{owner}.{function.__name__}"
    del method.__wrapped__


class Client:
    """A client of emq for programs with threads. Threads can share it, and a forked process has connections of its own.

    - `url`: `http://…`, `https://…` or `unix:///path`; by default that of the variable EMQ_URL, or
      http://localhost:8080
    - `token`: by default the value of EMQ_TOKEN, or the user part of the URL
    - `ca`: a file of issuers in PEM, which alone are trusted for https; by default those of the system
    - `timeout`: how many seconds a call may take in all, besides the time that it asks the server to wait
    - `tries`: how often a call is tried at most, if the connection breaks or the server refuses it for now
    - `connections`: how many requests may be under way at once, of which waits may be three quarters; others wait

    Use it in `with`, or call `close`. Raises `ValueError` if an argument is malformed.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        timeout: float = 10.0,
        tries: int = 5,
        connections: int = 64,
    ) -> None:
        if not timeout > 0 or tries < 1 or connections < 1:
            raise ValueError("timeout must be above 0, and tries and connections at least 1")
        self._place = Place(url, token, ca)
        self._timeout = float(timeout)
        self._tries = tries
        self._closed = False
        self._pool = Pool(self._place, connections)
        self._keeper = Keeper(self)
        _clients.add(self)
        # Many programs leave it to their end to close a client, and Python warns of sockets that are open then.
        weakref.finalize(self, self._pool.close_idle)

    def __repr__(self) -> str:
        return f"<emq.Client of {self._place.name}{', closed' if self._closed else ''}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._closed

    @property
    def url(self) -> str:
        """The server's URL, without a token."""
        return self._place.name

    def asynchronous(self) -> AsyncClient:
        """A new client for asyncio, for the same server with the same token, timeout and tries. Close it, too."""
        from ._async_client import AsyncClient

        return AsyncClient(timeout=self._timeout, tries=self._tries, _place=self._place)

    def close(self) -> None:
        """Closes the client. Its waits end without tasks, and tasks that `tasks` has not handed out yet go back.

        Other threads can still finish the tasks that they work on; all else raises `ClientClosed`.
        """
        if not self._closed:
            self._closed = True
            self._pool.close()
            self._keeper.release_waiting()

    @property
    def timeout(self) -> float:
        """How many seconds a call may take in all, besides the time that it asks the server to wait."""
        return self._timeout

    def run(
        self,
        call: Call[T],
        *,
        timeout: float | None = None,
        tries: int | None = None,
        each: float | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> T:
        """Does a call, with all its tries. The methods of the client use it.

        - `timeout`: instead of the client's, and also while the client is closed
        - `tries`: instead of the client's
        - `each`: how many seconds one try may take; by default all that are left
        - `stop`: ends a wait when it becomes true
        """
        place = self._place
        if self._closed and timeout is None:
            raise ClientClosed(f"{call.name(place.name)}: the client is closed")
        request = call.render(place.base_path, place.head)
        started = time.monotonic()
        limit = self._timeout if timeout is None else timeout
        deadline = started + limit + call.waits
        state: Tries | None = None
        while True:
            try:
                end = deadline if each is None else min(deadline, time.monotonic() + each)
                return self._exchange(call, request, end, state is not None and state.arrived, stop)
            except Failure as failure:
                if self._closed and timeout is None:
                    raise ClientClosed(f"{call.name(place.name)}: the client was closed") from failure.error
                if state is None:
                    state = Tries(call, tries or self._tries, started, limit)
                pause = state.pause_after(failure)
            # A wait that should stop does not begin again.
            if stop is not None and stop():
                raise ClientClosed(f"{call.name(place.name)}: stopped")
            time.sleep(pause)
            if call.rest is not None:
                # Otherwise the server would still wait when the time is over.
                rest = call.rest(max(0.0, deadline - limit - time.monotonic()))
                request = rest.render(place.base_path, place.head)

    def _stream(self, call: Call[None]) -> Generator[Event, None, None]:
        """The events of one stream. Raises `Failure` when it ends, but when the client is closed."""
        place, name = self._place, call.name(self._place.name)
        deadline = time.monotonic() + self._timeout
        connection = self._pool.take(deadline, name, True)
        try:
            request = call.render(place.base_path, place.head)
            pieces = connection.stream(request, deadline, SILENCE_SECONDS, name)
            parser = EventParser()
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    call.finish(end.value, False, self._keeper, place.name)
                    raise Failure(ConnectionFailed(f"{name}: the server ended the stream"), False) from None
                try:
                    found = parser.feed(piece)
                except ValueError as error:
                    raise Failure(UnexpectedAnswer(f"{name}: {error}", status=200, body=piece), False) from error
                yield from found
        finally:
            self._pool.give(connection, True, False)

    def _forked(self) -> None:
        """Forgets connections and tasks, in a forked process."""
        self._pool.reset()
        self._pool.closed = self._closed
        self._keeper.reset()

    def _exchange(
        self, call: Call[T], request: bytes, deadline: float, repeated: bool, stop: Callable[[], bool] | None
    ) -> T:
        pool = self._pool
        name = call.name(self._place.name)
        is_wait = call.waits > 0
        connection = pool.take(deadline, name, is_wait)
        reusable = False
        try:
            response = connection.exchange(request, deadline, stop, name, call.takes_tasks)
            reusable = response.reusable
            return call.finish(response, repeated, self._keeper, self._place.name)
        except (Failure, Error):
            raise
        except BaseException:
            # Somebody has interrupted the program. What the wait has taken must not stay taken.
            answer = connection.read_on() if call.takes_tasks else None
            if answer is not None and answer.status == 200:
                self._give_back(call, answer)
            raise
        finally:
            pool.give(connection, is_wait, reusable)

    def _give_back(self, call: Call[Any], response: Response) -> None:
        """Releases the tasks of an answer that nobody will get."""
        try:
            found = call.value(response, False, self._keeper, self._place.name)
            receipts = [task.receipt for task in found if task is not None]
            if receipts:
                self.run(calls.nak(receipts, release=True), timeout=self._timeout)
        except Error:
            pass

    enqueue = _blocking(calls.enqueue)
    enqueue_many = _blocking(calls.enqueue_many)
    wait = _blocking(calls.wait)
    places = _blocking(calls.places)
    ack = _blocking(calls.ack)
    ack_each = _blocking(calls.ack_each)
    nak = _blocking(calls.nak)
    touch = _blocking(calls.touch)
    task = _blocking(calls.task)
    cancel = _blocking(calls.cancel)
    result = _blocking(calls.result)
    delete_result = _blocking(calls.delete_result)
    key = _blocking(calls.key)
    free_key = _blocking(calls.free_key)

    peek = _blocking(manage.peek)
    queues = _blocking(manage.queues)
    stats = _blocking(manage.stats)
    all_stats = _blocking(manage.all_stats)
    alerts = _blocking(manage.alerts)
    operations = _blocking(manage.operations)
    stop_operation = _blocking(manage.stop_operation)
    errors = _blocking(manage.errors)
    workers = _blocking(manage.workers)
    search = _blocking(manage.search)
    pause = _blocking(manage.pause)
    resume = _blocking(manage.resume)
    purge = _blocking(manage.purge)
    kick = _blocking(manage.kick)
    kick_tasks = _blocking(manage.kick_tasks)
    move = _blocking(manage.move)
    move_tasks = _blocking(manage.move_tasks)
    config = _blocking(manage.config)
    put_config = _blocking(manage.put_config)
    patch_config = _blocking(manage.patch_config)
    delete_config = _blocking(manage.delete_config)
    defaults = _blocking(manage.defaults)
    put_defaults = _blocking(manage.put_defaults)
    patch_defaults = _blocking(manage.patch_defaults)
    delete_defaults = _blocking(manage.delete_defaults)
    sources = _blocking(manage.sources)
    source = _blocking(manage.source)
    put_source = _blocking(manage.put_source)
    delete_source = _blocking(manage.delete_source)
    pause_source = _blocking(manage.pause_source)
    resume_source = _blocking(manage.resume_source)
    metrics = _blocking(manage.metrics)
    queue_metrics = _blocking(manage.queue_metrics)
    healthz = _blocking(manage.healthz)
    openapi = _blocking(manage.openapi)
    access = _blocking(manage.access)

    def tasks(
        self,
        *queues: str,
        lease: Duration | None = None,
        max: int = 1,
        stop: ThreadEvent | Callable[[], bool] | None = None,
        worker: str | None = None,
    ) -> Generator[Task, None, None]:
        """Waits for tasks of queues, and yields them one after the other, until `stop` or the end of the client.

        ```python
        for task in client.tasks("mail", "news", lease=60):
            with task:
                send(task.content)
        ```

        - `queues`: the server empties the first ones first
        - `lease`: a lease instead of the tasks' own
        - `max`: how many tasks to take at once, 1 to 1000. The client extends the leases of those that you do not have
          yet, and gives them back when the iteration ends
        - `stop`: ends the iteration when the event is set, or when the function returns true
        - `worker`: a name to show with the tasks; by default that of the host with the number of the process

        If it cannot reach the server, or the server refuses requests for now, it tries again. It raises other errors.
        """
        return iterate(self, self._keeper, queues, lease, max, stop, worker)

    def events(self, get: str | Iterable[str], *, interval: Duration | None = None) -> Generator[Event, None, None]:
        """Watches the server: yields the answers to requests, at first all and then those that change.

        - `get`: the path and query of a GET, such as `/stats/mail`, or up to 16 of them
        - `interval`: how many seconds lie between two rounds, 1 to 60; by default 1

        It goes on when the server cannot be reached or stops, with all answers anew; other errors are raised. It ends
        when the client is closed.
        """
        call = events(get, interval)
        return self._events(call)

    def _events(self, call: Call[None]) -> Generator[Event, None, None]:
        pauses = Pauses()
        while not self._closed:
            try:
                for event in self._stream(call):
                    pauses = Pauses()
                    yield event
            except ClientClosed:
                return
            except Failure as failure:
                if failure.final or not isinstance(failure.error, PASSING_ERRORS):
                    raise failure.error from failure.__cause__
                if self._closed:
                    return
                logger.warning("the stream of events has broken; opening it again: %s", failure.error)
                sleep(pauses.after(failure.error), lambda: self._closed)


def _after_fork() -> None:
    """A child has connections of its own; those of its parent, and the parent's tasks, are not the child's."""
    for client in list(_clients):
        client._forked()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
