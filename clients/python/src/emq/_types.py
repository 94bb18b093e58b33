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


class Result(TypedDict, total=False):
    """The state of a task, and its result if it has one."""

    state: State
    result: Any


class Attempt(TypedDict, total=False):
    """One dispatch of a task."""

    attempt: int
    dispatched: float
    ended: float
    worker: str
    outcome: Literal["failed", "timed_out", "released", "done", "cancelled", "expired"]
    error: str


class ListedTask(TypedDict, total=False):
    """A task, as lists show it."""

    id: str
    queue: str
    attempt: int
    state: State
    enqueued: float
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
    since: float
    """Only of a key that stays taken after its task's record is gone, as is `until`."""
    until: float


class FoundTask(TypedDict, total=False):
    """A task that a search found."""

    id: str
    queue: str
    state: State
    enqueued: float
    key: str


class Found(TypedDict, total=False):
    """What a search found; `more` is there if there is more."""

    tasks: list[FoundTask]
    queues: list[str]
    more: bool


class Paused(TypedDict, total=False):
    """Whether a queue is paused; `new` is there if emq knew nothing of the queue."""

    paused: bool
    new: bool


class Purged(TypedDict, total=False):
    """How many tasks were deleted; `stopped` is there if somebody stopped the operation."""

    purged: int
    stopped: bool


class Kicked(TypedDict, total=False):
    """How many tasks were kicked; `missing` has those that were named and stay as they are."""

    kicked: int
    stopped: bool
    missing: list[str]


class Moved(TypedDict, total=False):
    """How many tasks were moved; `missing` has those that were named and stay where they are."""

    moved: int
    stopped: bool
    missing: list[str]


class Rates(TypedDict):
    """Tasks a second in the last minute."""

    enqueued: float
    done: float
    failed: float


class Totals(TypedDict, total=False):
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


class QueueStatistics(TypedDict, total=False):
    """The figures of a queue."""

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
    paused_since: float
    rates: Rates
    totals: Totals
    pushed: bool
    sending: int
    circuit: CircuitState
    history: History | None
    trend: list[int] | None


class Row(QueueStatistics, total=False):
    """A queue, or a group of queues: then it has `group` instead of `queue`, and sums."""

    group: str
    queues: int


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
