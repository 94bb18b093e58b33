"""The client for asyncio."""

from __future__ import annotations

import asyncio
import functools
import os
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from . import _calls as calls
from . import _calls_manage as manage
from ._async_connections import AsyncConnection, AsyncPool
from ._async_iteration import AsyncStop, iterate_async, sleep_async
from ._async_keeper import AsyncKeeper
from ._call import Call, Failure, Pauses, Tries
from ._client import describe
from ._errors import ClientClosed, ConnectionFailed, Error, UnexpectedAnswer
from ._events import SILENCE_SECONDS, EventParser, events
from ._http import Response
from ._json import Duration
from ._leases import PASSING_ERRORS, logger
from ._place import Place
from ._task import Task
from ._types_server import Event

P = ParamSpec("P")
T = TypeVar("T")

_clients: weakref.WeakSet[AsyncClient] = weakref.WeakSet()


def _awaited(function: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """A method of the client that does a call."""

    @functools.wraps(function)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.run(function(*args, **kwargs))

    describe(method, function, "AsyncClient")
    return method


class AsyncClient:
    """A client of emq for asyncio. Its methods are those of `Client`, and all of them are coroutines.

    The arguments are those of `Client`. The client belongs to the loop that uses it first, until that is closed. Use
    it in `async with`, or await `close`. You can cancel every call: a wait that you cancel gives back what it has
    taken, and the connection of a call that you cancel is not used again.
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
        _place: Place | None = None,
    ) -> None:
        if not timeout > 0 or tries < 1 or connections < 1:
            raise ValueError("timeout must be above 0, and tries and connections at least 1")
        self._place = Place(url, token, ca) if _place is None else _place
        self._timeout = float(timeout)
        self._tries = tries
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool = AsyncPool(self._place, connections)
        self._keeper = AsyncKeeper(self)
        _clients.add(self)

    def __repr__(self) -> str:
        return f"<emq.AsyncClient of {self._place.name}{', closed' if self._closed else ''}>"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self._closed

    @property
    def url(self) -> str:
        """The server's URL, without a token."""
        return self._place.name

    @property
    def timeout(self) -> float:
        """How many seconds a call may take in all, besides the time that it asks the server to wait."""
        return self._timeout

    async def close(self) -> None:
        """Closes the client. Its waits end without tasks, and tasks that `tasks` has not handed out yet go back.

        What was being reported is reported first. Afterwards all calls raise `ClientClosed`, but tasks that are worked
        on can still be finished.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        if not self._closed:
            self._closed = True
            self._pool.close()
            await self._keeper.release_waiting()
        await self._keeper.settle()

    async def run(
        self, call: Call[T], *, timeout: float | None = None, tries: int | None = None, each: float | None = None
    ) -> T:
        """Does a call, with all its tries. The methods of the client use it.

        - `timeout`: instead of the client's, and also while the client is closed
        - `tries`: instead of the client's
        - `each`: how many seconds one try may take; by default all that are left
        """
        place = self._place
        if self._closed and timeout is None:
            raise ClientClosed(f"{call.name(place.name)}: the client is closed")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        request = call.render(place.base_path, place.head)
        started = time.monotonic()
        limit = self._timeout if timeout is None else timeout
        deadline = loop.time() + limit + call.waits
        state: Tries | None = None
        while True:
            try:
                end = deadline if each is None else min(deadline, loop.time() + each)
                response = await self._exchange(call, request, end)
                return call.finish(response, state is not None and state.arrived, self._keeper, place.name)
            except Failure as failure:
                if self._closed and timeout is None:
                    raise ClientClosed(f"{call.name(place.name)}: the client was closed") from failure.error
                if state is None:
                    state = Tries(call, tries or self._tries, started, limit)
                pause = state.pause_after(failure)
            await asyncio.sleep(pause)
            if call.rest is not None:
                # Otherwise the server would still wait when the time is over.
                rest = call.rest(max(0.0, deadline - limit - loop.time()))
                request = rest.render(place.base_path, place.head)

    async def _stream(self, call: Call[None]) -> AsyncGenerator[Event, None]:
        """The events of one stream. Raises `Failure` when it ends."""
        place, name = self._place, call.name(self._place.name)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        deadline = loop.time() + self._timeout
        connection = await self._pool.take(deadline, name, True)
        try:
            request = call.render(place.base_path, place.head)
            parser = EventParser()
            async with aclosing(connection.stream(request, deadline, SILENCE_SECONDS, name)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Response):
                        call.finish(piece, False, self._keeper, place.name)
                        break
                    try:
                        found = parser.feed(piece)
                    except ValueError as error:
                        raise Failure(UnexpectedAnswer(f"{name}: {error}", status=200, body=piece), False) from error
                    for event in found:
                        yield event
            raise Failure(ConnectionFailed(f"{name}: the server ended the stream"), False)
        finally:
            self._pool.give(connection, True, False)

    def _forked(self) -> None:
        """Forgets connections and tasks, in a forked process or another loop."""
        self._loop = None
        self._pool.reset()
        self._pool.closed = self._closed
        self._keeper.reset()

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            if not self._loop.is_closed():
                raise RuntimeError("another event loop uses the client; make a client for each loop")
            self._forked()
        self._loop = loop

    async def _exchange(self, call: Call[Any], request: bytes, deadline: float) -> Response:
        name = call.name(self._place.name)
        is_wait = call.waits > 0
        connection = await self._pool.take(deadline, name, is_wait)
        reusable = kept = False
        try:
            response = await connection.exchange(request, deadline, name)
            reusable = response.reusable
            return response
        except asyncio.CancelledError:
            if call.takes_tasks:
                kept = True
                self._keeper.in_background(self._give_back(call, connection, is_wait))
            raise
        finally:
            if not kept:
                self._pool.give(connection, is_wait, reusable)

    async def _give_back(self, call: Call[Any], connection: AsyncConnection, is_wait: bool) -> None:
        """Releases the tasks that a cancelled wait has taken."""
        try:
            response = await connection.read_on()
        finally:
            self._pool.give(connection, is_wait, False)
        if response is None or response.status != 200:
            return
        try:
            found = call.value(response, False, self._keeper, self._place.name)
            receipts = [task.receipt for task in found if task is not None]
            if receipts:
                await self.run(calls.nak(receipts, release=True), timeout=self._timeout)
        except Error:
            # The tasks come again when their leases end.
            pass

    enqueue = _awaited(calls.enqueue)
    enqueue_many = _awaited(calls.enqueue_many)
    wait = _awaited(calls.wait)
    places = _awaited(calls.places)
    ack = _awaited(calls.ack)
    ack_each = _awaited(calls.ack_each)
    nak = _awaited(calls.nak)
    touch = _awaited(calls.touch)
    task = _awaited(calls.task)
    cancel = _awaited(calls.cancel)
    result = _awaited(calls.result)
    delete_result = _awaited(calls.delete_result)
    key = _awaited(calls.key)
    free_key = _awaited(calls.free_key)
    peek = _awaited(manage.peek)
    queues = _awaited(manage.queues)
    stats = _awaited(manage.stats)
    all_stats = _awaited(manage.all_stats)
    alerts = _awaited(manage.alerts)
    operations = _awaited(manage.operations)
    stop_operation = _awaited(manage.stop_operation)
    errors = _awaited(manage.errors)
    workers = _awaited(manage.workers)
    search = _awaited(manage.search)
    pause = _awaited(manage.pause)
    resume = _awaited(manage.resume)
    purge = _awaited(manage.purge)
    kick = _awaited(manage.kick)
    kick_tasks = _awaited(manage.kick_tasks)
    move = _awaited(manage.move)
    move_tasks = _awaited(manage.move_tasks)
    config = _awaited(manage.config)
    put_config = _awaited(manage.put_config)
    patch_config = _awaited(manage.patch_config)
    delete_config = _awaited(manage.delete_config)
    defaults = _awaited(manage.defaults)
    put_defaults = _awaited(manage.put_defaults)
    patch_defaults = _awaited(manage.patch_defaults)
    delete_defaults = _awaited(manage.delete_defaults)
    sources = _awaited(manage.sources)
    source = _awaited(manage.source)
    put_source = _awaited(manage.put_source)
    delete_source = _awaited(manage.delete_source)
    pause_source = _awaited(manage.pause_source)
    resume_source = _awaited(manage.resume_source)
    metrics = _awaited(manage.metrics)
    queue_metrics = _awaited(manage.queue_metrics)
    healthz = _awaited(manage.healthz)
    openapi = _awaited(manage.openapi)
    access = _awaited(manage.access)

    def tasks(
        self,
        *queues: str,
        lease: Duration | None = None,
        max: int = 1,
        stop: AsyncStop | None = None,
        worker: str | None = None,
    ) -> AsyncGenerator[Task, None]:
        """Waits for tasks of queues, and yields them one after the other, until `stop` or the end of the client.

        ```python
        async for task in client.tasks("mail", "news", lease=60):
            async with task:
                await send(task.content)
        ```

        - `queues`: the server empties the first ones first
        - `lease`: a lease instead of the tasks' own
        - `max`: how many tasks to take at once, 1 to 1000. The client extends the leases of those that you do not have
          yet, and gives them back when the iteration ends
        - `stop`: ends the iteration when the event, of asyncio or threading, is set, or when the function returns true
        - `worker`: a name to show with the tasks; by default that of the host with the number of the process

        If it cannot reach the server, or the server refuses requests for now, it tries again. It raises other errors.
        """
        return iterate_async(self, self._keeper, queues, lease, max, stop, worker)

    def events(self, get: str | Iterable[str], *, interval: Duration | None = None) -> AsyncGenerator[Event, None]:
        """Watches the server: yields the answers to requests, at first all and then those that change.

        - `get`: the path and query of a GET, such as `/stats/mail`, or up to 16 of them
        - `interval`: how many seconds lie between two rounds, 1 to 60; by default 1

        It goes on when the server cannot be reached or stops, with all answers anew; other errors are raised. It ends
        when the client is closed.
        """
        call = events(get, interval)
        return self._events(call)

    async def _events(self, call: Call[None]) -> AsyncGenerator[Event, None]:
        pauses = Pauses()
        while not self._closed:
            try:
                async with aclosing(self._stream(call)) as found:
                    async for event in found:
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
                await sleep_async(pauses.after(failure.error), lambda: self._closed)


def _after_fork() -> None:
    """A child has connections of its own; those of its parent, and the parent's tasks, are not the child's."""
    for client in list(_clients):
        client._forked()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
