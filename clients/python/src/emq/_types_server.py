"""What the server answers about itself, its workers, errors and alerts, as types: `docs/api.md` explains each field."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypedDict

from ._types import State


class Alert(TypedDict, total=False):
    """Something that is wrong with the server or a queue."""

    level: Literal["critical", "warning"]
    kind: str
    text: str
    queue: str


class Alerts(TypedDict):
    """What is wrong with the server and its queues, the worst first."""

    status: Literal["ok", "warning", "critical"]
    alerts: list[Alert]
    left_out: int
    as_of: float


class Operation(TypedDict, total=False):
    """A purge, a kick or a move under way."""

    id: int
    action: Literal["purge", "kick", "move"]
    queue: str
    state: list[State]
    started: float
    examined: int
    changed: int
    total: int
    to: str
    error: str
    error_match: str
    older_than: float
    newer_than: float


class ErrorGroup(TypedDict, total=False):
    """Dead tasks of a queue with the same line of their errors; tasks without an error have no `error`."""

    queue: str
    count: int
    first: float
    last: float
    example: str
    error: str


class ErrorGroups(TypedDict, total=False):
    """Groups of dead tasks, those with the most tasks first."""

    errors: list[ErrorGroup]
    groups: int
    tasks: int
    as_of: float
    left_out: int


class HeldTask(TypedDict):
    """A task that a worker holds."""

    id: str
    queue: str
    dispatched: float
    lease_end: float


class Worker(TypedDict, total=False):
    """A worker with its waits and its tasks."""

    name: str
    waiting: int
    queues: list[str]
    held: int
    tasks: list[HeldTask]
    first_seen: float
    last_seen: float
    oldest_dispatched: float


class Workers(TypedDict, total=False):
    """The workers that match; `unnamed` counts the waits and tasks of those without a name."""

    workers: list[Worker]
    count: int
    unnamed: dict[str, int]
    as_of: float
    left_out: int


class Health(TypedDict, total=False):
    """Whether the server is up."""

    status: Literal["ok", "stopping", "recovering"]
    certificate_end: float
    detail: str


class Access(TypedDict, total=False):
    """What the client may do: the permissions of its token, and the queues for which they hold."""

    tokens: bool
    permissions: list[str]
    queues: list[str]
    name: str
    expires: float


class Event(NamedTuple):
    """The answer to one of the requests that `events` repeats."""

    index: int
    """Which of the requests it answers, counted from 0."""
    status: int
    """The status of the answer: 200, or that of an error."""
    data: Any
    """The answer itself, decoded; of an error, its problem."""


class Operations(TypedDict):
    """The purges, kicks and moves under way, in the order in which the server does them."""

    operations: list[Operation]
