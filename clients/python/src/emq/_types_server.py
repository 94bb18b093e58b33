"""What the server answers about itself, its workers, errors and alerts, as types: `docs/api.md` explains each field."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypedDict

from ._types import State


class _AlertAlways(TypedDict):
    level: Literal["critical", "warning"]
    kind: str
    text: str


class Alert(_AlertAlways, total=False):
    """Something that is wrong with the server or a queue."""

    queue: str


class Alerts(TypedDict):
    """What is wrong with the server and its queues, the worst first."""

    status: Literal["ok", "warning", "critical"]
    alerts: list[Alert]
    left_out: int
    as_of: float


class _OperationAlways(TypedDict):
    id: int
    action: Literal["purge", "kick", "move"]
    queue: str
    state: list[State]
    started: float
    examined: int
    changed: int
    total: int


class Operation(_OperationAlways, total=False):
    """A purge, a kick or a move under way."""

    to: str
    error: str
    error_match: str
    older_than: float
    newer_than: float


class _ErrorGroupAlways(TypedDict):
    queue: str
    count: int
    first: float
    last: float
    example: str


class ErrorGroup(_ErrorGroupAlways, total=False):
    """Dead tasks of a queue with the same line of their errors; tasks without an error have no `error`."""

    error: str


class _ErrorGroupsAlways(TypedDict):
    errors: list[ErrorGroup]
    groups: int
    tasks: int
    as_of: float


class ErrorGroups(_ErrorGroupsAlways, total=False):
    """Groups of dead tasks, those with the most tasks first."""

    left_out: int


class HeldTask(TypedDict):
    """A task that a worker holds."""

    id: str
    queue: str
    dispatched: float
    lease_end: float


class _WorkerAlways(TypedDict):
    name: str
    queues: list[str]
    held: int
    tasks: list[HeldTask]


class Worker(_WorkerAlways, total=False):
    """A worker with its waits and its tasks."""

    waiting: int
    first_seen: float
    last_seen: float
    oldest_dispatched: float


class _WorkersAlways(TypedDict):
    workers: list[Worker]
    count: int
    unnamed: dict[str, int]
    as_of: float


class Workers(_WorkersAlways, total=False):
    """The workers that match; `unnamed` counts the waits and tasks of those without a name."""

    left_out: int


class _HealthAlways(TypedDict):
    status: Literal["ok", "stopping", "recovering"]


class Health(_HealthAlways, total=False):
    """Whether the server is up."""

    certificate_end: float
    detail: str


class _AccessAlways(TypedDict):
    tokens: bool
    permissions: list[str]
    queues: list[str]


class Access(_AccessAlways, total=False):
    """What the client may do: the permissions of its token, and the queues for which they hold."""

    name: str
    expires: float


class Event(NamedTuple):
    """The answer to one of the requests that `events` repeats."""

    position: int
    """Which of the requests it answers, counted from 0."""
    status: int
    """The status of the answer: 200, or that of an error."""
    data: Any
    """The answer itself, decoded; of an error, its problem."""


class Operations(TypedDict):
    """The purges, kicks and moves under way, in the order in which the server does them."""

    operations: list[Operation]
