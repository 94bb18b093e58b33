"""What the server answers, as types: `docs/api.md` explains each field. Fields without a value are left out."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypedDict, TypeVar

T = TypeVar("T")

State = Literal["ready", "delayed", "dispatched", "dead", "done", "cancelled", "expired"]
OnConflict = Literal["keep", "replace", "reject"]
HistoryStep = Literal["1m", "5m"]
QueueOrder = Literal[
    "name", "ready", "delayed", "dispatched", "dead", "oldest_ready", "enqueued", "done", "failed", "rate", "waiters",
    "paused",
]  # fmt: skip
WorkerOrder = Literal["oldest", "held", "name", "last_seen"]


class Enqueued(NamedTuple):
    """A task that was added, or the one that already had its key."""

    id: str
    existing: bool
    """Whether the key was taken, so that the id is that of an earlier task."""


class Page(list[T]):
    """A list with the place where its next page begins."""

    next: str | None = None
    """What to pass as `after` to get the next page; None if the server named none."""


class Backoff(TypedDict, total=False):
    """The pauses before retries; `min` is required."""

    min: float
    max: float | None
    doublings: int | None
    jitter: float | None


class Request(TypedDict, total=False):
    """The request by which emq sends a task itself."""

    url: str
    method: str
    headers: dict[str, str]
    timeout: float
    on_dead: str
    body: Any


class Circuit(TypedDict, total=False):
    """When emq leaves a failing receiver alone. Both fields are required."""

    failures: int
    pause: float


class Push(TypedDict, total=False):
    """How emq sends the tasks of a queue itself."""

    url: str | None
    method: str | None
    headers: dict[str, str | None] | None
    timeout: float | None
    on_dead: str | None
    concurrency: int | None
    rate: str | None
    circuit: Circuit | None
    signature: str | None
    secret: str | None
    secrets: list[str] | None
    ca: str | None


class Configuration(TypedDict, total=False):
    """Defaults for the tasks of a queue, or of all queues. Durations are seconds."""

    retry: float | None
    expiry: float | Literal["never"] | None
    max_retries: int | None
    max_crashes: int | None
    backoff: float | Backoff | None
    keep: float | None
    priority: int | None
    max_length: int | None
    dead_letter: str | None
    dead_expiry: float | None
    on_expiry: Literal["dead", "delete"] | None
    show_content: bool | None
    push: Push | None
    removed: list[str]
    """Only in the answer to a PUT: what the configuration before had and the new one lacks."""


class Acked(TypedDict):
    """How many tasks were acknowledged, and which were not dispatched any more."""

    acked: int
    missing: list[str]


class Refused(TypedDict):
    """How many tasks will run again, how many are dead, and which were not dispatched any more."""

    requeued: int
    dead: int
    missing: list[str]


class Touched(TypedDict):
    """How many leases were extended, and which tasks were not dispatched any more."""

    touched: int
    missing: list[str]


class _ResultAlways(TypedDict):
    state: State


class Result(_ResultAlways, total=False):
    """The state of a task, and its result if it has one."""

    result: Any


class _AttemptAlways(TypedDict):
    attempt: int


class Attempt(_AttemptAlways, total=False):
    """One dispatch of a task."""

    dispatched: float
    ended: float
    worker: str
    outcome: Literal["failed", "timed_out", "released", "done", "cancelled", "expired"]
    error: str


class _ListedTaskAlways(TypedDict):
    id: str
    queue: str
    attempt: int
    state: State
    enqueued: float


class ListedTask(_ListedTaskAlways, total=False):
    """A task, as lists show it."""

    content: Any
    content_bytes: int
    content_start: str
    metadata: dict[str, str]
    metadata_bytes: int
    metadata_start: str
    content_hidden: bool
    request_id: str
    traceparent: str
    due: float
    dispatched: float
    lease_end: float
    expires: float
    finished: float
    died: float
    worker: str
    error: str
    origin: str


class TaskRecord(ListedTask, total=False):
    """Everything about a task."""

    retries: int
    retry: float
    priority: int
    max_retries: int | None
    max_crashes: int | None
    backoff: float | Backoff
    key: str
    unique_until: float
    keep: float
    request: Request
    request_bytes: int
    request_start: str
    progress: Any
    progress_bytes: int
    progress_start: str
    result: Any
    result_bytes: int
    result_start: str
    log: str
    log_bytes: int
    log_end: str
    crashes: int
    attempts: list[Attempt]


class KeptKey(TypedDict):
    """A key that stays taken after its task's record is gone."""

    key: str
    queue: str
    id: str
    since: float
    until: float


class _FoundTaskAlways(TypedDict):
    id: str
    queue: str
    state: State
    enqueued: float


class FoundTask(_FoundTaskAlways, total=False):
    """A task that a search found."""

    key: str


class _FoundAlways(TypedDict):
    tasks: list[FoundTask]
    queues: list[str]


class Found(_FoundAlways, total=False):
    """What a search found; `more` is there if there is more."""

    more: bool


class _PausedAlways(TypedDict):
    paused: bool


class Paused(_PausedAlways, total=False):
    """Whether a queue is paused; `new` is there if emq knew nothing of the queue."""

    new: bool


class _PurgedAlways(TypedDict):
    purged: int


class Purged(_PurgedAlways, total=False):
    """How many tasks were deleted; `stopped` is there if somebody stopped the operation."""

    stopped: bool


class _KickedAlways(TypedDict):
    kicked: int


class Kicked(_KickedAlways, total=False):
    """How many tasks were kicked; `missing` has those that were named and stay as they are."""

    stopped: bool
    missing: list[str]


class _MovedAlways(TypedDict):
    moved: int


class Moved(_MovedAlways, total=False):
    """How many tasks were moved; `missing` has those that were named and stay where they are."""

    stopped: bool
    missing: list[str]
