"""Runs tasks of Django in a worker of emq."""

from __future__ import annotations

import inspect
from datetime import datetime, timezone
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections, reset_queries
from django.tasks import task_backends
from django.tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
from django.tasks.signals import task_finished, task_started
from django.utils.json import normalize_json

from .._app import App
from .._async_client import AsyncClient
from .._content import Call, decode
from .._execution import current_task
from .._function import TaskFunction
from .._task import Dead, Release, description
from .._worker_options import default_name
from . import EMQBackend, find_task, time_of


class DjangoApp(App):
    """The tasks that a backend has enqueued: they are found by their paths, not by a registration."""

    def __init__(self, backend: EMQBackend) -> None:
        super().__init__()
        self._backend = backend
        self._found: dict[str, TaskFunction[..., Any, Any]] = {}

    @property
    def queues(self) -> list[str]:
        """The `QUEUES` of the backend."""
        return sorted(self._backend.queues)

    def new_async_client(self) -> AsyncClient:
        """A client with the backend's options."""
        return self._backend.client.asynchronous()

    def function_for(self, content: object) -> tuple[TaskFunction[..., Any, Any], Call]:
        """The function of a task of Django. Raises NotACall."""
        call = decode(content)
        function = self._found.get(call.name)
        if function is None:
            task = find_task(call.name)
            run = self._wrapped_async(task) if inspect.iscoroutinefunction(task.func) else self._wrapped(task)
            function = self._found[call.name] = TaskFunction(self, run, call.name, {})
        return function, call

    def _wrapped(self, task: Task) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            _tidy()
            try:
                result = self._begin(task, args, kwargs)
                if task.takes_context:
                    args = (TaskContext(task_result=result), *args)
                try:
                    value = normalize_json(task.func(*args, **kwargs))
                except BaseException as error:
                    self._fail(result, error)
                    raise
                self._succeed(result, value)
                return value
            finally:
                _tidy()

        return run

    def _wrapped_async(self, task: Task) -> Any:
        # Connections belong to the thread in which asgiref runs what is not asynchronous.
        tidy = sync_to_async(_tidy, thread_sensitive=True)

        async def run(*args: Any, **kwargs: Any) -> Any:
            await tidy()
            try:
                result = await sync_to_async(self._begin, thread_sensitive=True)(task, args, kwargs)
                if task.takes_context:
                    args = (TaskContext(task_result=result), *args)
                try:
                    value = normalize_json(await task.func(*args, **kwargs))
                except BaseException as error:
                    await sync_to_async(self._fail, thread_sensitive=True)(result, error)
                    raise
                await sync_to_async(self._succeed, thread_sensitive=True)(result, value)
                return value
            finally:
                await tidy()

        return run

    # MARK: What receivers of signals see

    def _begin(self, task: Task, args: Any, kwargs: Any) -> TaskResult:
        held = current_task()
        now = _now()
        result = TaskResult(
            task=task.using(queue_name=held.queue, backend=self._backend.alias),
            id=held.id,
            status=TaskResultStatus.RUNNING,
            enqueued_at=time_of(held.id),
            started_at=now if held.attempt == 1 else None,
            last_attempted_at=now,
            finished_at=None,
            args=list(args),
            kwargs=kwargs,
            backend=self._backend.alias,
            errors=[],
            # `attempt` of the context is the length. Which workers had the task before, only the server knows.
            worker_ids=["unknown"] * (held.attempt - 1) + [default_name()],
        )
        task_started.send(sender=type(self._backend), task_result=result)
        return result

    def _fail(self, result: TaskResult, error: BaseException) -> None:
        limit = self._backend.task_options["max_retries"]
        is_last = limit is not None and result.attempts > limit
        if isinstance(error, Release) or (not is_last and not isinstance(error, Dead)) or _is_lost():
            return
        kind = type(error)
        path = f"{kind.__module__}.{kind.__qualname__}"
        result.errors.append(TaskError(exception_class_path=path, traceback=description(error)))
        self._finish(result, TaskResultStatus.FAILED)

    def _succeed(self, result: TaskResult, value: Any) -> None:
        if _is_lost():
            return
        object.__setattr__(result, "_return_value", value)
        self._finish(result, TaskResultStatus.SUCCESSFUL)

    def _finish(self, result: TaskResult, status: TaskResultStatus) -> None:
        object.__setattr__(result, "finished_at", _now())
        object.__setattr__(result, "status", status)
        task_finished.send(type(self._backend), task_result=result)


class _Apps:
    """The app of each backend, by its alias, so that a worker's child can name it."""

    def __getattr__(self, alias: str) -> DjangoApp:
        django.setup()
        backend = task_backends[alias]
        if not isinstance(backend, EMQBackend):
            raise AttributeError(alias)
        return DjangoApp(backend)


apps = _Apps()


def _is_lost() -> bool:
    return current_task().lost


def _now() -> datetime:
    return datetime.now(timezone.utc if settings.USE_TZ else None)


def _tidy() -> None:
    """What Django does before and after each request."""
    reset_queries()
    close_old_connections()
