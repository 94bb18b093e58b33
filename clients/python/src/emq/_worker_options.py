"""How a worker works, and what it is called."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

MAXIMUM_NAME_BYTES = 255


def default_name() -> str:
    """The name that a worker has if nobody gives it another: the host and the process."""
    return f"{socket.gethostname()}-{os.getpid()}"[:MAXIMUM_NAME_BYTES]


@dataclass
class WorkerOptions:
    """How a worker works. Durations are in seconds."""

    jobs: int = 1
    queues: Sequence[tuple[str, int | None]] = ()
    """The queues with their weights. Without weights, the first queues are emptied first."""
    lease: float | None = None
    grace: float = 25.0
    exit_when_empty: float | None = None
    """End when there has been no task for so long."""
    max_tasks: int | None = None
    max_time: float | None = None
    name: str = field(default_factory=default_name)
    handles_signals: bool = False

    def queue_order(self) -> list[str]:
        """The names of the queues for a wait: as they were named, or at random by weight."""
        queues = self.queues
        if all(weight is None for _, weight in queues):
            return [name for name, _ in queues]
        # With the keys u^(1/w), a queue comes first with a probability in proportion to its weight (Efraimidis and
        # Spirakis, "Weighted random sampling with a reservoir", 2006).
        keyed = [(random.random() ** (1 / (weight or 1)), name) for name, weight in queues]
        return [name for _, name in sorted(keyed, reverse=True)]
