"""The place for functions that need a core each: worker processes, which import the app themselves.

A child is a new interpreter, not a fork. It talks with the worker over a socket, in lines of JSON: a task's record
comes in, and an outcome goes out. The worker alone talks to the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from ._content import NotACall, decode
from ._execution import Ending, logger, run
from ._pools import Pool
from ._task import Task

if TYPE_CHECKING:
    from ._app import App

_MAXIMUM_LINE_BYTES = 1 << 30
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 60.0
# How long an idle child has to end by itself.
_END_SECONDS = 5.0

# A child finds modules where the worker does.
_PROGRAM = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from emq._processes import main
main(sys.argv[2], int(sys.argv[3]))
"""

_FIELDS = ("id", "queue", "content", "attempt", "receipt", "key", "metadata", "request_id", "traceparent")


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


class _Child:
    """A process, and the task that it works on."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process, self.reader, self.writer = process, reader, writer
        self.work: tuple[Task, asyncio.Future[Ending]] | None = None

    def send(self, line: bytes) -> None:
        """Sends a line, if the process still listens."""
        if not self.writer.is_closing():
            self.writer.write(line)

    def kill(self) -> None:
        """Kills the process if it still runs."""
        if self.process.returncode is None:
            try:
                self.process.kill()
            except ProcessLookupError:
                pass


class ProcessPool(Pool):
    """A process for each function that runs. One that dies is replaced, and the attempt of its task has failed."""

    def __init__(self, app: App, jobs: int, target: str) -> None:
        super().__init__(app, jobs)
        self._loop = asyncio.get_running_loop()
        self._target = target
        self._all: set[_Child] = set()
        # Those that have imported the app.
        self._ready: set[_Child] = set()
        self._keepers: list[asyncio.Task[None]] = []
        self._is_ending = False

    async def begin(self) -> None:
        self._keepers = [asyncio.ensure_future(self._keep()) for _ in range(self.jobs)]

    @property
    def places(self) -> int:
        return len(self._ready)

    def start(self, task: Task) -> asyncio.Future[Ending]:
        future: asyncio.Future[Ending] = self._loop.create_future()
        record = {name: value for name in _FIELDS if (value := getattr(task, name)) is not None}
        try:
            line = _line({"task": {**record, "retry": task.lease}})
        except (TypeError, ValueError) as error:
            text = f"the content cannot go to a process: {error}"
            future.set_result(Ending("failed", error=text, name=_name_in(task)))
            return future
        child = next(child for child in self._ready if child.work is None)
        child.work = (task, future)
        child.send(line)
        return future

    def abandon(self, task: Task) -> None:
        for child in self._ready:
            if child.work and child.work[0] is task:
                child.send(_line({"lost": True}))

    def interrupt(self, task: Task) -> None:
        # The worker interrupts only when it stops, so it needs no more children.
        self._is_ending = True
        for child in self._ready:
            if child.work and child.work[0] is task:
                child.kill()

    async def end(self) -> bool:
        self._is_ending = True
        for child in self._all:
            # An idle child ends at the end of its input. A busy one has had its time.
            if child.work is not None:
                child.kill()
            child.writer.close()
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=_END_SECONDS)
            for child in self._all:
                child.kill()
            for keeper in self._keepers:
                keeper.cancel()
            await asyncio.gather(*self._keepers, return_exceptions=True)
        return True

    async def _keep(self) -> None:
        """Keeps one place filled."""
        pause = 0.0
        while not self._is_ending:
            started_at = time.monotonic()
            try:
                child = await self._spawn()
            except OSError as error:
                logger.warning("cannot start a worker process: %s; trying again in %g s", error, _LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(_LONGEST_PAUSE_SECONDS)
                continue
            self._all.add(child)
            reading = asyncio.ensure_future(self._read(child))
            try:
                status = await child.process.wait()
                # What it has said before may still be on its way.
                await asyncio.wait([reading], timeout=1)
            finally:
                reading.cancel()
                child.kill()
                child.writer.close()
                is_ready = child in self._ready
                self._ready.discard(child)
                self._all.discard(child)
            self._report_end(child, status)
            if self._is_ending:
                return
            # A child that dies as soon as it starts must not keep the machine busy.
            is_short = not is_ready or time.monotonic() - started_at < _FIRST_PAUSE_SECONDS
            pause = min(max(2 * pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS) if is_short else 0.0
            then = f" in {pause:g} s" if pause else ""
            logger.warning("a worker process %s; starting another%s", _end_text(status), then)
            await asyncio.sleep(pause)

    async def _spawn(self) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _PROGRAM,
                json.dumps(sys.path),
                self._target,
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_MAXIMUM_LINE_BYTES)
        return _Child(process, reader, writer)

    async def _read(self, child: _Child) -> None:
        """Reads the messages of a child until it ends. Kills a child that sends a malformed one."""
        try:
            await self._read_lines(child)
        except (OSError, ValueError, TypeError) as error:
            logger.warning("a worker process has sent a malformed message, and is killed: %r", error)
            child.kill()

    async def _read_lines(self, child: _Child) -> None:
        while line := await child.reader.readline():
            message: dict[str, Any] = json.loads(line)
            if message.get("ready"):
                self._ready.add(child)
            elif child.work is not None:
                _, future = child.work
                child.work = None
                if not future.done():
                    future.set_result(Ending(**message))
            self.changed()

    def _report_end(self, child: _Child, status: int) -> None:
        if child.work is None:
            return
        task, future = child.work
        child.work = None
        if not future.done():
            error = f"the worker process {_end_text(status)} while it did the task"
            future.set_result(Ending("failed", error=error, name=_name_in(task)))
        self.changed()


def _end_text(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _name_in(task: Task) -> str | None:
    try:
        return decode(task.content).name
    except NotACall:
        return None


def _do_nothing(number: int, frame: object) -> None:
    pass


def main(target: str, descriptor: int) -> None:
    """What a child does: imports the app, and runs one function after the other."""
    from ._target import load

    # The worker decides when a child ends. Programs that a function runs do not inherit a handler, unlike SIG_IGN.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _do_nothing)
    os.set_inheritable(descriptor, False)
    connection = socket.socket(fileno=descriptor)
    lines = connection.makefile("rb")
    app = load(target)
    tasks: list[Task] = []
    arrived = threading.Semaphore(0)

    def read() -> None:
        with contextlib.suppress(OSError):
            for line in lines:
                message = json.loads(line)
                if "task" in message:
                    tasks.append(Task(message["task"]))
                    arrived.release()
                elif tasks:
                    tasks[-1].lost = True
        # The worker has ended, or wants this process to end.
        os._exit(0)

    def say(message: dict[str, Any]) -> None:
        try:
            connection.sendall(_line(message))
        except OSError:
            # The worker has ended.
            os._exit(0)

    threading.Thread(target=read, name="emq-reader", daemon=True).start()
    say({"ready": True})
    while True:
        arrived.acquire()
        outcome = run(app, tasks[0])
        tasks.clear()
        sys.stdout.flush()
        say(outcome._asdict())
