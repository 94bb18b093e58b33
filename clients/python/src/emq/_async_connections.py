"""The connections of an `AsyncClient`: transports of asyncio, kept and reused, and bounded in number."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncGenerator
from typing import cast

from ._call import Failure
from ._connections import GIVE_BACK_SECONDS, LONGEST_IDLE, all_in_use, connecting_failed
from ._errors import ClientClosed, ConnectionFailed, Timeout, UnexpectedAnswer
from ._http import MalformedResponse, Response, ResponseParser
from ._place import Place

MAXIMUM_UNREAD_BYTES = 1 << 20
"""How much of a stream may wait for its reader."""


class AsyncConnection(asyncio.Protocol):
    """One connection to the server, for one request at a time."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.half_closed = False
        self.is_stale = False
        """Whether the connection has ended, or the server has sent something that answers nothing."""
        self._streams = False
        self._transport: asyncio.Transport | None = None
        self._parser: ResponseParser | None = None
        self._outcome: Response | Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def exchange(self, request: bytes, deadline: float, name: str) -> Response:
        """Sends a request and receives its response. Raises `Failure`."""
        assert self._transport is not None
        self._parser, self._outcome = ResponseParser(), None
        if self.is_stale:
            raise Failure(ConnectionFailed(f"{name}: the server closed the connection"), False)
        self._transport.write(request)
        outcome = await self._receive(deadline)
        if isinstance(outcome, Response):
            return outcome
        parser = self._parser
        if outcome is None:
            raise Failure(Timeout(f"{name}: no answer in time"), True)
        if not isinstance(outcome, MalformedResponse):
            raise Failure(ConnectionFailed(f"{name}: the connection broke: {outcome}"), True) from outcome
        if not parser.started:
            raise Failure(ConnectionFailed(f"{name}: the server closed the connection"), True)
        error = UnexpectedAnswer(f"{name}: {outcome}", status=parser.status, body=bytes(parser.body[:1000]))
        raise Failure(error, True)

    async def stream(
        self, request: bytes, deadline: float, silence: float, name: str
    ) -> AsyncGenerator[bytes | Response, None]:
        """Sends a request, and yields the body of its response piece by piece, if its status is 200.

        `silence` is after how many seconds without a byte the connection counts as broken. At last it yields the
        response, when that has ended; its body is there if the status was another one. Raises `Failure`.
        """
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        parser = self._parser = ResponseParser(streaming=True)
        self._outcome, self._streams = None, True
        self._transport.write(request)
        while True:
            if not parser.body:
                await self._receive(deadline)
            if parser.status == 200 and parser.body:
                piece = bytes(parser.body)
                parser.body.clear()
                self._transport.resume_reading()
                yield piece
                deadline = loop.time() + silence
                continue
            outcome = await self._receive(loop.time())
            if isinstance(outcome, Response):
                yield outcome
                return
            if isinstance(outcome, Exception):
                raise Failure(ConnectionFailed(f"{name}: the connection broke: {outcome}"), False) from outcome
            if loop.time() >= deadline:
                raise Failure(Timeout(f"{name}: nothing came in time"), False)

    async def read_on(self) -> Response | None:
        """What the server answered to a wait that was cancelled; None if nothing whole came in time."""
        self.end_wait()
        outcome = await self._receive(asyncio.get_running_loop().time() + GIVE_BACK_SECONDS)
        return outcome if isinstance(outcome, Response) else None

    def end_wait(self) -> None:
        """Closes the sending side, so that the server answers a wait at once, without tasks."""
        self.half_closed = True
        assert self._transport is not None
        # Not write_eof, which TLS does not have.
        connection = cast("socket.socket | None", self._transport.get_extra_info("socket"))
        try:
            if connection is not None:
                connection.shutdown(socket.SHUT_RDWR if self._streams else socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """Closes the connection."""
        self.is_stale = True
        if self._transport is not None:
            self._transport.abort()

    async def _receive(self, deadline: float) -> Response | Exception | None:
        """The response, or what happened instead; None after the deadline."""
        if self._outcome is None:
            loop = asyncio.get_running_loop()
            waiter = self._waiter = loop.create_future()
            timer = loop.call_at(deadline, _wake, waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self._outcome

    def _end(self, outcome: Response | Exception) -> None:
        if self._outcome is None:
            self._outcome = outcome
            if self._waiter is not None:
                _wake(self._waiter)

    # MARK: What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._outcome is not None:
            self.close()
            return
        try:
            response = self._parser.feed(data)
        except MalformedResponse as error:
            self._end(error)
            self.close()
            return
        if response is not None:
            self._end(response)
        elif self._streams:
            if self._waiter is not None:
                _wake(self._waiter)
            if self._transport is not None and len(self._parser.body) > MAXIMUM_UNREAD_BYTES:
                self._transport.pause_reading()

    def eof_received(self) -> None:
        self.is_stale = True
        if self._parser is not None and self._outcome is None:
            try:
                self._end(self._parser.end())
            except MalformedResponse as error:
                self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_stale = True
        self._end(exc or MalformedResponse("the connection ended in the middle of the answer"))


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class AsyncPool:
    """The connections of a client in one loop: those in use and those kept for the next request."""

    def __init__(self, place: Place, maximum: int) -> None:
        self._place = place
        self._maximum = maximum
        # Waits must leave a connection for what ends them: enqueues, and acks for the tasks that they wait for.
        self._maximum_waits = max(1, maximum - max(1, maximum // 4))
        self.reset()

    def reset(self) -> None:
        """Forgets all connections, which belong to another loop or process."""
        self._idle: list[AsyncConnection] = []
        self._in_use = 0
        self._waits: set[AsyncConnection] = set()
        self._reserved_waits = 0
        # Who is waiting for a connection: those that wait for tasks or results, and all others.
        self._queues: tuple[deque[asyncio.Future[None]], deque[asyncio.Future[None]]] = (deque(), deque())
        self.closed = False

    async def take(self, deadline: float, name: str, is_wait: bool) -> AsyncConnection:
        """A connection that seems to be alive. Raises `Failure` and `ClientClosed`."""
        while self._is_full(is_wait):
            await self._queue(deadline, name, is_wait)
        if is_wait and self.closed:
            raise ClientClosed(f"{name}: the client is closed")
        self._in_use += 1
        self._reserved_waits += is_wait
        loop = asyncio.get_running_loop()
        connection: AsyncConnection | None = None
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_stale and loop.time() - connection.idle_since < LONGEST_IDLE:
                break
            connection.close()
            connection = None
        if connection is None:
            try:
                connection = await self._connect(deadline - loop.time(), name)
            except BaseException:
                self.give(None, is_wait, False)
                raise
        if is_wait:
            self._waits.add(connection)
            if self.closed:
                connection.end_wait()
        return connection

    def give(self, connection: AsyncConnection | None, is_wait: bool, reusable: bool) -> None:
        """Takes a connection back."""
        self._in_use -= 1
        if is_wait:
            self._reserved_waits -= 1
        if connection is not None:
            self._waits.discard(connection)
            if reusable and not self.closed and not connection.half_closed and not connection.is_stale:
                connection.idle_since = asyncio.get_running_loop().time()
                self._idle.append(connection)
            else:
                connection.close()
        self._wake_next()

    def close(self) -> None:
        """Ends all waits, and closes each connection when it is not in use any more."""
        self.closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        for connection in self._waits:
            connection.end_wait()
        if self._waits:
            asyncio.get_running_loop().call_later(GIVE_BACK_SECONDS, self._end_waits)
        for queue in self._queues:
            for waiter in queue:
                _wake(waiter)

    def _end_waits(self) -> None:
        """Ends waits that the server has not answered, though they have ended."""
        for connection in self._waits:
            connection.close()

    def _is_full(self, is_wait: bool) -> bool:
        if is_wait and self.closed:
            return False
        return self._in_use >= self._maximum or (is_wait and self._reserved_waits >= self._maximum_waits)

    async def _queue(self, deadline: float, name: str, is_wait: bool) -> None:
        """Waits until a connection may be free."""
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            raise all_in_use(name, self._maximum_waits if is_wait else self._maximum, is_wait)
        waiter: asyncio.Future[None] = loop.create_future()
        queue = self._queues[is_wait]
        queue.append(waiter)
        timer = loop.call_at(deadline, _wake, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # Whoever was woken for nothing wakes the next one.
            self._wake_next()
            raise
        finally:
            timer.cancel()
            if waiter in queue:
                queue.remove(waiter)

    def _wake_next(self) -> None:
        for is_wait in (False, True):
            queue = self._queues[is_wait]
            while queue and not self._is_full(is_wait):
                waiter = queue.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    break

    async def _connect(self, timeout: float, name: str) -> AsyncConnection:
        place, loop = self._place, asyncio.get_running_loop()

        async def connect() -> AsyncConnection:
            if place.socket_path is not None:
                _, connection = await loop.create_unix_connection(AsyncConnection, place.socket_path)
            else:
                _, connection = await loop.create_connection(
                    AsyncConnection, place.host, place.port, ssl=place.tls,
                    server_hostname=place.host if place.tls is not None else None,
                )  # fmt: skip
            return connection

        # wait_for of Python before 3.12 may swallow a cancellation.
        connecting = loop.create_task(connect())
        try:
            await asyncio.wait({connecting}, timeout=max(0.001, timeout))
        except BaseException:
            connecting.cancel()
            connecting.add_done_callback(_close_late)
            raise
        if not connecting.done():
            connecting.cancel()
            connecting.add_done_callback(_close_late)
            raise Failure(Timeout(f"{name}: the server did not accept the connection in time"), False)
        try:
            return connecting.result()
        except (OSError, UnicodeError) as error:
            raise connecting_failed(error, name, place) from error


def _close_late(connecting: asyncio.Task[AsyncConnection]) -> None:
    """Closes a connection that nobody waits for any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
