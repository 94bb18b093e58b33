"""A backend for the tasks of Django 6 and newer (`django.tasks`).

```python
TASKS = {"default": {"BACKEND": "emq.django.EMQBackend", "QUEUES": ["default", "mail"]}}
INSTALLED_APPS = [..., "emq.django"]
```

The app in `INSTALLED_APPS` has the worker: `python manage.py emq_work`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import Task, TaskError, TaskResult, TaskResultStatus
from django.tasks.exceptions import TaskResultDoesNotExist
from django.tasks.signals import task_enqueued
from django.utils.json import normalize_json
from django.utils.module_loading import import_string

from .. import Client, InvalidRequest, NoSuchTask
from .._app import App
from .._content import NotACall, decode
from .._types import TaskRecord

__all__ = ["EMQBackend", "WorkerLost"]

# The defaults of tasks. Django's contract is that a task whose function fails has failed, and that results can be
# asked for later.
_TASK_OPTIONS: dict[str, Any] = {"max_retries": 0, "keep": 86400.0}
_OTHER_TASK_OPTIONS = frozenset({"backoff", "expiry", "lease", "max_crashes", "metadata"})
_CLIENT_OPTIONS = frozenset({"url", "token", "ca", "timeout", "tries", "connections"})

_STATUSES = {
    "ready": TaskResultStatus.READY,
    "delayed": TaskResultStatus.READY,
    "dispatched": TaskResultStatus.RUNNING,
    "done": TaskResultStatus.SUCCESSFUL,
    "dead": TaskResultStatus.FAILED,
    "expired": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
}
_EXCEPTION = re.compile(r"([A-Za-z_][\w.]*)(?::|$)")

_clients: dict[tuple[object, ...], Client] = {}


class WorkerLost(Exception):
    """The error of a task whose attempt has ended without an exception: its worker is gone, it has expired or was
    cancelled."""


class EMQBackend(BaseTaskBackend):
    """Sends tasks to an emq server.

    `OPTIONS` are those of `emq.Client` (`url`, `token`, `ca`, `timeout`, `tries`, `connections`), and defaults for
    tasks: `max_retries` (0 unless you say otherwise: a function that fails has failed), `keep` (a day: how long a
    result can be asked for), `backoff`, `lease`, `expiry`, `max_crashes` and `metadata`. Durations are in seconds.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self.task_options: dict[str, Any] = {
            **_TASK_OPTIONS,
            **{name: value for name, value in self.options.items() if name not in _CLIENT_OPTIONS},
        }

    # MARK: Sending

    @property
    def client(self) -> Client:
        """The client of this backend; backends with the same options share it, in all threads."""
        options = {name: value for name, value in self.options.items() if name in _CLIENT_OPTIONS}
        # Tests change these variables.
        key = (*sorted(options.items()), *App.environment_key())
        client = _clients.get(key)
        if client is None:
            try:
                client = _clients.setdefault(key, Client(**options))
            except (TypeError, ValueError, OSError) as error:
                raise ImproperlyConfigured(f"OPTIONS of TASKS[{self.alias!r}]: {error}") from error
        return client

    def enqueue(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        """Enqueues a task. Raises TypeError or ValueError if the arguments cannot be JSON, and the errors of
        `Client.enqueue`."""
        self.validate_task(task)
        content = {"task": task.module_path, "args": normalize_json(args), "kwargs": normalize_json(kwargs)}
        try:
            enqueued = self.client.enqueue(
                task.queue_name, content, priority=task.priority, eta=task.run_after, **self.task_options
            )
        except TypeError as error:
            raise ImproperlyConfigured(f"OPTIONS of TASKS[{self.alias!r}]: {error}") from error
        result = TaskResult(
            task=task,
            id=enqueued.id,
            status=TaskResultStatus.READY,
            enqueued_at=time_of(enqueued.id),
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=content["args"],
            kwargs=content["kwargs"],
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        task_enqueued.send(type(self), task_result=result)
        return result

    # MARK: Results

    def get_result(self, result_id: str) -> TaskResult:
        """The state of a task, and its result or error. Raises TaskResultDoesNotExist if the server has no record of
        it, or if it was not a task of Django."""
        try:
            record = self.client.task(result_id)
        except (NoSuchTask, InvalidRequest, ValueError) as error:
            raise TaskResultDoesNotExist(result_id) from error
        try:
            call = decode(record.get("content"))
            task = find_task(call.name)
        except NotACall as error:
            raise TaskResultDoesNotExist(f"{result_id}: {error}") from error
        status = _STATUSES[record["state"]]
        # An attempt that was given back is none.
        attempts = [attempt for attempt in record.get("attempts", []) if attempt.get("outcome") != "released"]
        result = TaskResult(
            task=task.using(
                queue_name=record["queue"],
                priority=record["priority"],
                backend=self.alias,
                run_after=_time(record.get("due")),
            ),
            id=record["id"],
            status=status,
            enqueued_at=_time(record["enqueued"]),
            started_at=_time(attempts[0]["dispatched"]) if attempts else None,
            finished_at=_time(record.get("finished") or record.get("died")),
            last_attempted_at=_time(attempts[-1]["dispatched"]) if attempts else None,
            args=call.args,
            kwargs=call.kwargs,
            backend=self.alias,
            errors=_errors(record),
            worker_ids=[attempt.get("worker", "unknown") for attempt in attempts],
        )
        object.__setattr__(result, "_return_value", record.get("result"))
        return result

    # MARK: Checks

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """Checks the settings, without asking the server."""
        place = f"TASKS[{self.alias!r}]"
        messages: list[checks.CheckMessage] = []
        known = _CLIENT_OPTIONS | _TASK_OPTIONS.keys() | _OTHER_TASK_OPTIONS
        for name in sorted(set(self.options) - known):
            hint = f"There are: {', '.join(sorted(known))}."
            messages.append(checks.Error(f"{place}: OPTIONS has no {name!r}.", hint=hint, id="emq.E001"))
        try:
            self.client  # noqa: B018 - raises
        except ImproperlyConfigured as error:
            messages.append(checks.Error(f"{error}.", id="emq.E002"))
        for queue in sorted(map(str, self.queues)):
            if not 1 <= len(queue.encode()) <= 255 or any(letter < " " or letter == "\x7f" for letter in queue):
                hint = "A name has 1 to 255 bytes of UTF-8 without control characters."
                messages.append(checks.Error(f"{place}: {queue!r} is not a queue's name.", hint=hint, id="emq.E003"))
        return messages


def find_task(path: str) -> Task:
    """The task at a path such as `shop.tasks.send`. Raises NotACall if there is none."""
    if not all(part.isidentifier() for part in path.split(".")):
        raise NotACall(f"{path!r} is not the path of a task")
    try:
        task = import_string(path)
    except ImportError as error:
        raise NotACall(f"there is no task {path!r} here: {error}") from error
    if not isinstance(task, Task):
        raise NotACall(f"{path!r} is not a task of Django, but {type(task).__name__}")
    return task


def time_of(id: str) -> datetime | None:
    """When a task was enqueued: its id says so."""
    from base64 import urlsafe_b64decode

    return _time(int.from_bytes(urlsafe_b64decode(id + "==")[:6], "big") / 1000)


def _time(seconds: float | None) -> datetime | None:
    from django.conf import settings

    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc if settings.USE_TZ else None)


def _errors(record: TaskRecord) -> list[TaskError]:
    """The error of the last attempt that failed; of earlier ones, the server has only the beginning."""
    text = record.get("error")
    is_failed = record["state"] in ("dead", "expired", "cancelled")
    if text is None and not is_failed:
        return []
    text = text or f"the task is {record['state']}"
    lines = text.strip().splitlines() or [""]
    for line in (lines[-1], lines[0]):
        match = _EXCEPTION.match(line)
        if not match:
            continue
        path = match[1] if "." in match[1] else f"builtins.{match[1]}"
        try:
            kind = import_string(path)
        except ImportError:
            continue
        if isinstance(kind, type) and issubclass(kind, BaseException):
            return [TaskError(exception_class_path=path, traceback=text)]
    return [TaskError(exception_class_path=f"{__name__}.WorkerLost", traceback=text)]
