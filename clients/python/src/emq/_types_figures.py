"""The figures of queues and of the server, as types: `docs/api.md` explains each field."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from ._types import State


class Rates(TypedDict):
    """Tasks a second in the last minute."""

    enqueued: float
    done: float
    failed: float


class Totals(TypedDict):
    """What has happened since the queue was first used, or since the server started."""

    enqueued: int
    received: int
    dispatched: int
    acked: int
    nacked: int
    timed_out: int
    released: int
    expired: int
    died: int
    cancelled: int
    over_length: int
    notices: int


class History(TypedDict, total=False):
    """A history in steps of `interval` seconds, the oldest first."""

    interval: int
    end: float
    enqueued: list[int]
    done: list[int]
    failed: list[int]
    ready: list[int]
    dead: list[int]
    oldest_ready: list[int]
    wait_mean: list[float]
    wait_max: list[float]
    run_mean: list[float]
    run_max: list[float]


class CircuitState(TypedDict, total=False):
    """The state of a queue's circuit."""

    state: Literal["closed", "open", "half-open"]
    failures: int
    until: float


class _QueueStatisticsAlways(TypedDict):
    queue: str
    delayed: int
    ready: int
    dispatched: int
    dead: int
    done: int
    cancelled: int
    expired: int
    keys: int
    waiters: int
    oldest_ready: float | None
    paused: bool
    rates: Rates
    totals: Totals


class QueueStatistics(_QueueStatisticsAlways, total=False):
    """The figures of a queue."""

    paused_since: float
    pushed: bool
    sending: int
    circuit: CircuitState
    history: History | None
    trend: list[int] | None


class Row(TypedDict, total=False):
    """A queue, with all its figures, or a group of queues: then it has `group` instead of `queue`, and sums."""

    group: str
    queues: int
    queue: str
    delayed: int
    ready: int
    dispatched: int
    dead: int
    done: int
    cancelled: int
    expired: int
    keys: int
    waiters: int
    oldest_ready: float | None
    paused: int
    paused_since: float
    rates: Rates
    totals: Totals
    pushed: bool
    sending: int
    circuit: CircuitState
    trend: list[int] | None


class SourceStatus(TypedDict, total=False):
    """A source, and how it does. In the statistics it has no `amqp`, `prefetch` and `unique_for`."""

    amqp: str
    queue: str
    into: str
    prefetch: int
    unique_for: float
    state: Literal["connecting", "consuming", "waiting", "retrying", "stopped", "paused"]
    lag: int | None
    unacknowledged: int
    messages: int
    duplicates: int
    last_error: str | None
    last_error_at: float | None


class Statistics(TypedDict, total=False):
    """The figures of many queues, and of the server."""

    queues: dict[str, QueueStatistics]
    rows: list[Row]
    next: str
    count: int
    queues_left_out: int
    server: dict[str, Any]
    states: dict[State, int]
    oldest: dict[str, Any]
    tasks: int
    rates: Rates
    totals: Totals
    history: History | None
    connections: int
    memory: dict[str, int]
    certificate_end: float
    sources: dict[str, SourceStatus]
    sources_left_out: int
    journal: dict[str, Any]
