"""The requests that add tasks, take them and report what became of them: each is a function that returns a call.

The clients take their methods, with signatures and doc strings, from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from . import _json
from ._call import ALWAYS, DEFAULT, NEVER, Answer, Call, Default
from ._json import Duration, Time, path, seconds
from ._new_task import NewTask, make_repeatable, random_key
from ._task import TakenTasks, Task, bounded_error
from ._types import Acked, Backoff, Enqueued, KeptKey, OnConflict, Refused, Request, Result, TaskRecord, Touched

T = TypeVar("T")

LONGEST_WAIT = 3600.0

Reference = str | Task
"""A task that a worker holds: the task itself, its receipt or its id."""


def value_of(answer: Answer) -> Any:
    """The JSON of an answer."""
    return answer.json()


def no_value(answer: Answer) -> None:
    """Nothing: the answer says only that it is done."""


def enqueue(
    queue: str,
    content: object = None,
    *,
    lease: Duration | None = None,
    expiry: Duration | None | Default = DEFAULT,
    delay: Duration | None = None,
    eta: Time | None = None,
    priority: int | None = None,
    max_retries: int | None | Default = DEFAULT,
    max_crashes: int | None | Default = DEFAULT,
    backoff: Duration | Backoff | None = None,
    key: str | None = None,
    on_conflict: OnConflict | None = None,
    unique_for: Duration | None = None,
    keep: Duration | None = None,
    metadata: Mapping[str, str] | None = None,
    request: Request | None = None,
    request_id: str | None = None,
    traceparent: str | None = None,
) -> Call[Enqueued]:
    """Adds a task to the back of a queue, and returns its id.

    - `content`: any JSON value
    - `lease`: how long a worker may hold the task before the attempt counts as failed (the field `retry`)
    - `expiry`: after how long the server deletes the task; None means never
    - `delay` or `eta`: the earliest time to dispatch the task, from now or as a time
    - `priority`: −128 to 127, higher first
    - `max_retries`: how many retries may follow the first attempt; None allows any number
    - `max_crashes`: how many leases of the task may run out; None allows any number
    - `backoff`: the pause before a retry, or how it grows: `{"min": 1, "max": 60, "doublings": 5, "jitter": 0.1}`
    - `key`: a queue has at most one unfinished task with a given key. If it is taken, `on_conflict` says what happens:
      `"keep"` (the default) returns the id of the first task, `"replace"` gives that task the new content, and
      `"reject"` raises `KeyTaken`
    - `unique_for`: for how long the key stays taken, even after the task has ended
    - `keep`: for how long the server keeps the record, with its result, after the task has ended
    - `metadata`: strings to show with the task
    - `request`: makes the server send the task itself
    - `request_id`, `traceparent`: names for the request and its place in a trace, which the task keeps

    Durations are seconds or timedeltas. What you leave out comes from the queue's configuration.

    If the connection breaks, the client tries again, and cannot add the task twice: a task without a key gets a random
    one, for two minutes. With a key of your own, it tries again only within your `unique_for`, and with `"keep"`; else
    it raises `OutcomeUnknown`. After such a repetition, `existing` may be true because of the first try.

    Raises `TypeError` or `ValueError`, before anything is sent, if the content cannot be JSON.
    """
    task = NewTask(
        content, lease=lease, expiry=expiry, delay=delay, eta=eta, priority=priority, max_retries=max_retries,
        max_crashes=max_crashes, backoff=backoff, key=key, on_conflict=on_conflict, unique_for=unique_for, keep=keep,
        metadata=metadata, request=request,
    )  # fmt: skip
    fields = task.fields()
    own_key, repeatable_for = make_repeatable(fields, random_key())

    def enqueued(answer: Answer) -> Enqueued:
        value = answer.json()
        return Enqueued(value["id"], not own_key and value.get("existing", False))

    return Call(
        "POST", path("/enqueue/", queue), enqueued, body=_json.encode(fields),
        fields=_tracing(request_id, traceparent), repeatable_for=repeatable_for,
    )  # fmt: skip


def enqueue_many(
    queue: str,
    tasks: Iterable[NewTask | Mapping[str, Any]],
    *,
    request_id: str | None = None,
    traceparent: str | None = None,
) -> Call[list[Enqueued]]:
    """Adds 1 to 10,000 tasks to a queue at once, all or none, and returns their ids in order.

    Each task is an `emq.NewTask`, or a mapping with its arguments: `{"content": 1, "delay": 30}`. All that `enqueue`
    says holds here too; the client tries again only if that is safe for each task.
    """
    # One random text for all: with their indexes, the keys differ.
    prefix = random_key()
    bodies: list[dict[str, object]] = []
    own_keys: list[bool] = []
    repeatable_for = ALWAYS
    for index, task in enumerate(tasks):
        if isinstance(task, Mapping):
            task = NewTask(**task)
        elif not isinstance(task, NewTask):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"task {index} is {type(task).__name__}, and must be a NewTask or a mapping")
        fields = task.fields()
        own, seconds_ = make_repeatable(fields, f"{prefix}.{index}")
        bodies.append(fields)
        own_keys.append(own)
        repeatable_for = min(repeatable_for, seconds_)
    if not bodies:
        raise ValueError("there are no tasks to add")

    def enqueued(answer: Answer) -> list[Enqueued]:
        value = answer.json()
        existing = frozenset[int](value.get("existing", ()))
        return [
            Enqueued(id, index in existing and not own_keys[index]) for index, id in enumerate(value["ids"])
        ]

    return Call(
        "POST", path("/enqueue/", queue), enqueued, body=_json.encode(bodies),
        fields=_tracing(request_id, traceparent), repeatable_for=repeatable_for,
    )  # fmt: skip


def wait(
    queues: str | Iterable[str],
    timeout: Duration = 0,
    *,
    max: int = 1,
    ack: Reference | Iterable[Reference] = (),
    lease: Duration | None = None,
    worker: str | None = None,
) -> Call[TakenTasks]:
    """Takes up to `max` tasks from queues, as soon as there is one. Returns no task if there is none in time.

    - `queues`: a name, or up to 1000; the server empties the first ones first
    - `timeout`: how long to wait for a task, up to an hour
    - `max`: 1 to 1000
    - `ack`: up to 100 tasks to acknowledge first; `missing` of the returned list has those that were not dispatched
      any more
    - `lease`: a lease instead of the tasks' own
    - `worker`: a name to show with the tasks

    You hold each task for its lease: use `with task:`, or `ack`, `nak` and `touch`.
    """
    fields = _wait_fields(queues, ack, lease, worker)
    fields["max"] = max

    def taken(answer: Answer) -> TakenTasks:
        tasks = TakenTasks(Task(record, answer.holder) for record in answer.json())
        if not answer.repeated:
            missing = answer.fields.get("emq-missing", "")
            tasks.missing = tuple(name.strip() for name in missing.split(",")) if missing else ()
        return tasks

    return _waiting(fields, _wait_seconds(timeout), taken)


def places(
    queues: str | Iterable[str],
    timeout: Duration = 0,
    *,
    ack: Reference | Iterable[Reference] = (),
    lease: Duration | None = None,
    worker: str | None = None,
) -> Call[list[Task | None]]:
    """Takes one task for each name in `queues`, which may have names several times.

    The server answers as soon as it can fill every place. At the timeout it answers with the tasks that there are, and
    with None for each place that has none. The other arguments are those of `wait`.
    """
    fields = _wait_fields(queues, ack, lease, worker)

    def taken(answer: Answer) -> list[Task | None]:
        return [None if record is None else Task(record, answer.holder) for record in answer.json()]

    return _waiting(fields, _wait_seconds(timeout), taken)


def ack(tasks: Reference | Iterable[Reference], result: object = None, *, log: str | None = None) -> Call[Acked]:
    """Acknowledges up to 10,000 tasks: the work is done, and the tasks end.

    - `tasks`: a task, a receipt or an id, or several. Prefer tasks and receipts: an id also acknowledges a task that
      another worker holds by now
    - `result`: any JSON value, which the server keeps for the task's `keep`, and returns to clients that wait for it
    - `log`: the end of what the work printed, up to 65,536 bytes

    `missing` of the answer has those that were not dispatched any more. If the client had to try again, receipts that
    are missing then count as acknowledged, because the first try may have arrived.
    """
    ids = _ids(tasks)
    fields: dict[str, object] = {"ids": ids}
    if result is not None:
        fields["result"] = result
    if log is not None:
        fields["log"] = log
    return Call("POST", "/ack/", _acked(ids), body=_json.encode(fields))


def ack_each(results: Iterable[tuple[Reference, object]]) -> Call[Acked]:
    """Acknowledges up to 10,000 tasks, each with a result of its own. All else is as for `ack`."""
    pairs = [(_id(task), result) for task, result in results]
    tasks = [{"id": id, "result": result} if result is not None else {"id": id} for id, result in pairs]
    return Call("POST", "/ack/", _acked([id for id, _ in pairs]), body=_json.encode({"tasks": tasks}))


def nak(
    tasks: Reference | Iterable[Reference],
    error: str | None = None,
    *,
    delay: Duration | None = None,
    dead: bool = False,
    release: bool = False,
    log: str | None = None,
) -> Call[Refused]:
    """Refuses up to 10,000 tasks: the work has failed, or the tasks are given back.

    - `tasks`: a task, a receipt or an id, or several
    - `error`: the reason. What is longer than 10,000 bytes is cut in its middle
    - `delay`: the pause before the next attempt, instead of the backoff; with `release`, how long to put the task off
    - `dead`: no more retries
    - `release`: gives the tasks back instead of failing them, which counts neither as a retry nor as an attempt
    - `log`: the end of what the work printed, up to 65,536 bytes

    `missing` of the answer has those that were not dispatched any more; after a repetition, it leaves receipts out, as
    for `ack`. With ids instead of receipts, the client does not repeat the request after a broken connection, and
    raises `OutcomeUnknown`.
    """
    ids = _ids(tasks)
    fields: dict[str, object] = {"ids": ids}
    text = bounded_error(error) if error else None
    if text is not None:
        fields["error"] = text
    if delay is not None:
        fields["delay"] = seconds(delay, "delay")
    if dead:
        fields["dead"] = True
    if release:
        fields["release"] = True
    if log is not None:
        fields["log"] = log

    def refused(answer: Answer) -> Refused:
        value: Refused = answer.json()
        if answer.repeated:
            value["missing"] = [id for id in value["missing"] if "@" not in id]
        return value

    # An id also refuses a dispatch that has followed meanwhile.
    safe = all("@" in id for id in ids)
    return Call("POST", "/nak/", refused, body=_json.encode(fields), repeatable_for=ALWAYS if safe else NEVER)


def touch(
    tasks: Reference | Iterable[Reference], *, lease: Duration | None = None, progress: object = None
) -> Call[Touched]:
    """Restarts the lease of up to 10,000 tasks now.

    - `tasks`: a task, a receipt or an id, or several
    - `lease`: the new lease; by default it is as long as it was
    - `progress`: any JSON value, shown with the task

    `missing` of the answer has those that are not dispatched any more.
    """
    fields: dict[str, object] = {"ids": _ids(tasks)}
    if lease is not None:
        fields["retry"] = seconds(lease, "lease")
    if progress is not None:
        fields["progress"] = progress
    return Call("POST", "/touch/", value_of, body=_json.encode(fields))


def task(id: str, *, content_limit: int | None = None) -> Call[TaskRecord]:
    """Shows everything about a task. Raises `NoSuchTask`.

    With `content_limit`, the server shows at most so many bytes of each content, metadata, result and log.
    """
    return Call("GET", path("/task/", id, content_limit=content_limit), value_of)


def cancel(id: str) -> Call[None]:
    """Cancels an unfinished task; of a finished one, deletes the record. Raises `NoSuchTask`.

    If the connection breaks, the client does not try again, and raises `OutcomeUnknown`: the first try may have
    cancelled the task, and the second one would delete its record.
    """
    return Call("DELETE", path("/task/", id), no_value, repeatable_for=NEVER)


def result(id: str, timeout: Duration = 0) -> Call[Result]:
    """Waits until a task is done, dead, cancelled or expired, and returns its state, and its result if it has one.

    `timeout` is up to an hour; at its end the answer has the state of then. Raises `NoSuchTask`.
    """
    waits = _wait_seconds(timeout)
    target = path("/result/", id, timeout=math.ceil(waits * 1000))
    return Call("GET", target, value_of, waits=waits, rest=lambda left: result(id, left))


def delete_result(id: str) -> Call[None]:
    """Deletes the result of a task, but keeps the record. Raises `NoSuchTask`."""
    return Call("DELETE", path("/result/", id), no_value, done_error="no-such-task")


def key(queue: str, key: str, *, content_limit: int | None = None) -> Call[TaskRecord | KeptKey]:
    """Shows the task that has a key in a queue. Raises `NoSuchKey` if the key is free.

    If the key stays taken after its task's record is gone, the answer has no `state`, but `since` and `until`.
    """
    return Call("GET", path("/key/", queue, key=key, content_limit=content_limit), value_of)


def free_key(queue: str, key: str) -> Call[None]:
    """Frees a key that stays taken after its task's end. Raises `TaskUnfinished` and `NoSuchKey`."""
    return Call("DELETE", path("/key/", queue, key=key), no_value, done_error="no-such-key")


def _tracing(request_id: str | None, traceparent: str | None) -> bytes:
    fields = b""
    for name, value in (("X-Request-Id", request_id), ("traceparent", traceparent)):
        if value is not None:
            if not value or len(value) > 128 or not all("!" <= letter <= "~" for letter in value):
                raise ValueError(f"{name} must have 1 to 128 visible ASCII characters")
            fields += f"{name}: {value}\r\n".encode("ascii")
    return fields


def _wait_seconds(timeout: Duration) -> float:
    value = seconds(timeout, "timeout")
    if value < 0:
        raise ValueError("timeout is negative")
    return min(value, LONGEST_WAIT)


def _wait_fields(
    queues: str | Iterable[str], ack: Reference | Iterable[Reference], lease: Duration | None, worker: str | None
) -> dict[str, object]:
    fields: dict[str, object] = {"queues": [queues] if isinstance(queues, str) else list(queues)}
    ids = _ids(ack)
    if ids:
        fields["ack"] = ids
    if lease is not None:
        fields["retry"] = seconds(lease, "lease")
    if worker is not None:
        fields["worker"] = worker
    return fields


def _waiting(fields: dict[str, object], waits: float, decode: Callable[[Answer], T]) -> Call[T]:
    body = _json.encode({**fields, "timeout": math.ceil(waits * 1000)})
    return Call(
        "POST", "/wait/", decode, body=body, waits=waits, takes_tasks=True,
        rest=lambda left: _waiting(fields, left, decode),
    )  # fmt: skip


def _id(task: Reference) -> str:
    if isinstance(task, Task):
        return task.receipt
    if isinstance(task, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return task
    raise TypeError(f"{type(task).__name__} is not a task, a receipt or an id")


def _ids(tasks: Reference | Iterable[Reference]) -> list[str]:
    return [_id(tasks)] if isinstance(tasks, (str, Task)) else [_id(task) for task in tasks]


def _acked(ids: list[str]) -> Callable[[Answer], Acked]:
    def acked(answer: Answer) -> Acked:
        value: Acked = answer.json()
        if answer.repeated:
            missing = [id for id in value["missing"] if "@" not in id]
            return {"acked": len(ids) - len(missing), "missing": missing}
        return value

    return acked
