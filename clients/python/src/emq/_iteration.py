"""The loop of `Client.tasks`."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

from . import _calls as calls
from ._call import Call, Pauses
from ._connections import STOP_CHECKS
from ._errors import ClientClosed
from ._json import Duration
from ._keeper import Keeper
from ._leases import PASSING_ERRORS, logger
from ._task import TakenTasks, Task

T = TypeVar("T")

POLL_SECONDS = 30.0
"""How long one wait lasts: short enough for proxies, which end connections that are silent for a minute."""


class Waiter(Protocol):
    """What waits for tasks."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        ...

    def run(self, call: Call[T], *, stop: Callable[[], bool] | None = None) -> T:
        """Does a call."""
        ...


def worker_name() -> str:
    """A name for this process, as `emq work` makes it."""
    return f"{socket.gethostname() or 'worker'}-{os.getpid()}"[:255]


def iterate(
    client: Waiter,
    keeper: Keeper,
    queues: tuple[str, ...],
    lease: Duration | None,
    max: int,
    stop: threading.Event | Callable[[], bool] | None,
    worker: str | None,
) -> Generator[Task, None, None]:
    """Checks the arguments, and yields tasks as `Client.tasks` describes it."""
    if not queues:
        raise ValueError("name at least one queue")
    call = calls.wait(queues, POLL_SECONDS, max=max, lease=lease, worker=worker or worker_name())
    return _iterate(client, keeper, call, stop.is_set if isinstance(stop, threading.Event) else stop)


def _iterate(
    client: Waiter, keeper: Keeper, call: Call[TakenTasks], stop: Callable[[], bool] | None
) -> Generator[Task, None, None]:
    pauses = Pauses()

    def ends() -> bool:
        return client.closed or (stop is not None and stop())

    while not ends():
        try:
            taken = client.run(call, stop=stop)
            pauses = Pauses()
        except ClientClosed:
            return
        except PASSING_ERRORS as error:
            if ends():
                return
            logger.warning("cannot take tasks; trying again: %s", error)
            sleep(pauses.after(error), ends)
            continue
        try:
            keeper.hold(taken)
            for task in taken:
                if ends():
                    break
                if keeper.hand_out(task):
                    yield task
        finally:
            keeper.release_waiting(taken)


def sleep(seconds: float, ends: Callable[[], bool]) -> None:
    """Sleeps, unless it should end before."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not ends():
        time.sleep(min(left, STOP_CHECKS))
