"""The loop of `AsyncClient.tasks`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Protocol, TypeVar

from . import _calls as calls
from ._async_keeper import AsyncKeeper
from ._call import Call, Pauses
from ._connections import STOP_CHECKS
from ._errors import ClientClosed
from ._iteration import POLL_SECONDS, worker_name
from ._json import Duration
from ._leases import PASSING_ERRORS, logger
from ._task import TakenTasks, Task

T = TypeVar("T")

AsyncStop = asyncio.Event | threading.Event | Callable[[], bool]
"""What ends an iteration: an event, or a function that returns true."""


class AsyncWaiter(Protocol):
    """What waits for tasks."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        ...

    async def run(self, call: Call[T]) -> T:
        """Does a call."""
        ...


def iterate_async(
    client: AsyncWaiter,
    keeper: AsyncKeeper,
    queues: tuple[str, ...],
    lease: Duration | None,
    max: int,
    stop: AsyncStop | None,
    worker: str | None,
) -> AsyncGenerator[Task, None]:
    """Checks the arguments, and yields tasks as `AsyncClient.tasks` describes it."""
    if not queues:
        raise ValueError("name at least one queue")
    call = calls.wait(queues, POLL_SECONDS, max=max, lease=lease, worker=worker or worker_name())
    return _iterate(client, keeper, call, stop)


async def _iterate(
    client: AsyncWaiter, keeper: AsyncKeeper, call: Call[TakenTasks], stop: AsyncStop | None
) -> AsyncGenerator[Task, None]:
    pauses = Pauses()

    def ends() -> bool:
        return client.closed or _is_set(stop)

    while not ends():
        try:
            taken = await (client.run(call) if stop is None else _wait_until(client, keeper, call, stop))
            pauses = Pauses()
        except ClientClosed:
            return
        except PASSING_ERRORS as error:
            if ends():
                return
            logger.warning("cannot take tasks; trying again: %s", error)
            await sleep_async(pauses.after(error), ends)
            continue
        try:
            keeper.hold(taken)
            for task in taken:
                if ends():
                    break
                if keeper.hand_out(task):
                    yield task
        finally:
            await keeper.release_waiting(taken)


def _is_set(stop: AsyncStop | None) -> bool:
    if stop is None:
        return False
    return stop.is_set() if isinstance(stop, (asyncio.Event, threading.Event)) else stop()


async def _wait_until(
    client: AsyncWaiter, keeper: AsyncKeeper, call: Call[TakenTasks], stop: AsyncStop
) -> TakenTasks:
    """Waits for tasks, or until the stop, which takes none."""
    loop = asyncio.get_running_loop()
    waiting = loop.create_task(client.run(call))
    stopping = loop.create_task(stop.wait()) if isinstance(stop, asyncio.Event) else None
    try:
        while not waiting.done() and not _is_set(stop):
            if stopping is not None:
                await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.wait({waiting}, timeout=STOP_CHECKS)
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        return TakenTasks()
    except asyncio.CancelledError:
        waiting.cancel()
        keeper.in_background(_give_back(keeper, waiting))
        raise
    finally:
        if stopping is not None:
            stopping.cancel()


async def _give_back(keeper: AsyncKeeper, waiting: asyncio.Task[TakenTasks]) -> None:
    """Releases what a wait has taken before its cancellation reached it."""
    await asyncio.wait({waiting})
    if not waiting.cancelled() and waiting.exception() is None:
        keeper.hold(waiting.result())
        await keeper.release_waiting(waiting.result())


async def sleep_async(seconds: float, ends: Callable[[], bool]) -> None:
    """Sleeps, unless it should end before."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0 and not ends():
        await asyncio.sleep(min(left, STOP_CHECKS))
