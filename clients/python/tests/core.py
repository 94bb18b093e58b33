"""What the tests of the clients share: one face for both clients, and a server that does what a script says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import emq

PATIENCE = 60.0
"""How many seconds a test waits for what must come, also on a machine that is busy."""


def eventually(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """The first true value of a condition. Fails if it does not come."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come true")


def closing(call: Callable[[], Any]) -> Any:
    """What a call returns; an empty list if the client is closed meanwhile."""
    try:
        return call()
    except emq.ClientClosed:
        return []


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def close(self) -> None:
        async def cancel_all() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Blocking:
    """An AsyncClient with the face of a Client, for tests of what both do."""

    def __init__(self, loop: Loop, *arguments: Any, **options: Any) -> None:
        self._loop = loop
        self.client = emq.AsyncClient(*arguments, **options)

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.client, name)
        if name in ("tasks", "events"):
            return lambda *arguments, **options: self._iterate(value(*arguments, **options))
        if not callable(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            return self._loop.run(value(*arguments, **options))

        return call

    def _iterate(self, generator: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await generator.__anext__()

        try:
            while True:
                try:
                    yield self._loop.run(following())
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run(generator.aclose())

    @contextlib.contextmanager
    def working(self, task: emq.Task) -> Iterator[emq.Task]:
        """`async with task:` for code that is not asynchronous."""
        self._loop.run(task.__aenter__())
        try:
            yield task
        except BaseException as error:
            if not self._loop.run(task.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self._loop.run(task.__aexit__(None, None, None))


class Threads(emq.Client):
    """A Client, with what `Blocking` has."""

    @property
    def client(self) -> emq.Client:
        return self

    def working(self, task: emq.Task) -> emq.Task:
        return task


Action = Any


class ScriptedServer:
    """A server that answers each request with the next action of a script. An action is

    - bytes: sends them, and keeps the connection
    - `CLOSE`: reads the request, and closes the connection without an answer; `RESET` resets it
    - `REFUSE`: closes a new connection before it reads anything
    - `SILENCE`: never answers
    - `FORWARD`: passes the request to a real server, and its answer back; `LOSE` keeps the answer, and closes
    - a tuple of actions: one after the other, for one request

    Without an action that is left, it forwards.
    """

    CLOSE, RESET, REFUSE, SILENCE, FORWARD, LOSE = "close", "reset", "refuse", "silence", "forward", "lose"

    def __init__(self, *script: Action, target: int = 0) -> None:
        self.script = list(script)
        self.requests: list[bytes] = []
        self.connections = 0
        self._target = target
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *_: object) -> None:
        # To close it would not end an accept that goes on.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def close_connections(self) -> None:
        """Closes the connections that are open, as a server does with those that are idle."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                if self.script and self.script[0] == self.REFUSE:
                    self.script.pop(0)
                    connection.close()
                    continue
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while (request := _read_message(connection)) is not None:
                with self._lock:
                    self.requests.append(request)
                    action = self.script.pop(0) if self.script else self.FORWARD
                for part in action if isinstance(action, tuple) else (action,):
                    if not self._do(connection, request, part):
                        return

    def _do(self, connection: socket.socket, request: bytes, action: Action) -> bool:
        if isinstance(action, bytes):
            connection.sendall(action)
            return True
        if action == self.SILENCE:
            while connection.recv(1000):
                pass
            return False
        if action == self.RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if action in (self.FORWARD, self.LOSE):
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                server.sendall(request)
                answer = _read_message(server)
            if action == self.FORWARD and answer is not None:
                connection.sendall(answer)
                return True
        return False


def _read_message(connection: socket.socket) -> bytes | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    while len(body) < length:
        piece = connection.recv(65_536)
        if not piece:
            return None
        body += piece
    return head + b"\r\n\r\n" + body


def answer(status: int, body: str = "", *fields: str) -> bytes:
    """A response with a body of JSON."""
    lines = [f"HTTP/1.1 {status} Words", f"Content-Length: {len(body.encode())}", "Content-Type: application/json"]
    return "\r\n".join([*lines, *fields, "", body]).encode()


def problem(status: int, type: str, *fields: str) -> bytes:
    """A response with one of the server's errors."""
    return answer(status, f'{{"type":"urn:emq:error:{type}","title":"T","status":{status},"detail":"D"}}', *fields)
