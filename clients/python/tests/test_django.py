"""emq.django: the backend for the tasks of Django 6, and its worker."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import emq

django = pytest.importorskip("django", reason="Django is not installed")
if django.VERSION < (6, 0):
    pytest.skip("Django's tasks came with version 6.0", allow_module_level=True)

os.environ["DJANGO_SETTINGS_MODULE"] = "djangosite.settings"
django.setup()

from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.management.base import CommandError, SystemCheckError  # noqa: E402
from django.tasks import TaskResultStatus, default_task_backend, task_backends  # noqa: E402
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch  # noqa: E402
from django.tasks.signals import task_enqueued  # noqa: E402
from django.test import override_settings  # noqa: E402
from djangosite import tasks  # noqa: E402

pytestmark = pytest.mark.usefixtures("emq_server")

HERE = Path(__file__).parent
EPOCH = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)


@pytest.fixture(autouse=True)
def no_events() -> None:
    tasks.events.clear()


def work(*arguments: str) -> None:
    call_command("emq_work", "--exit-when-empty", *arguments)


def test_enqueue_and_result(emq_client: emq.Client) -> None:
    result = tasks.add.enqueue(1, b=2)
    assert result.status == TaskResultStatus.READY and not result.is_finished
    assert (result.args, result.kwargs, result.backend, result.attempts) == ([1], {"b": 2}, "default", 0)
    record = emq_client.task(result.id)
    assert record["content"] == {"task": "djangosite.tasks.add", "args": [1], "kwargs": {"b": 2}}
    assert (record["queue"], record["max_retries"], record["keep"]) == ("default", 0, 86400)
    assert result.enqueued_at is not None and abs(result.enqueued_at.timestamp() - record["enqueued"]) < 0.01

    work()
    result.refresh()
    assert result.status == TaskResultStatus.SUCCESSFUL and result.return_value == 3
    assert result.attempts == 1 and result.errors == []
    times = [result.enqueued_at, result.started_at, result.last_attempted_at, result.finished_at]
    assert times == sorted(times, key=lambda time: time or EPOCH) and None not in times
    assert tasks.add.get_result(result.id) == result
    assert tasks.events == [
        ("started", "EMQBackend", "add", "RUNNING"),
        ("finished", "EMQBackend", "add", "SUCCESSFUL"),
    ]


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_asynchronous_tasks(pool: str) -> None:
    async def main() -> Any:
        return await tasks.aadd.aenqueue(1, 2), await tasks.acontext.aenqueue()

    results = asyncio.run(main())
    assert results[0].task.queue_name == "mail"
    work("--pool", pool)
    assert asyncio.run(tasks.aadd.aget_result(results[0].id)).return_value == [3, "tuple"]
    assert tasks.acontext.get_result(results[1].id).return_value == 1
    assert sorted(tasks.events) == [
        ("finished", "EMQBackend", "aadd", "SUCCESSFUL"),
        ("finished", "EMQBackend", "acontext", "SUCCESSFUL"),
        ("started", "EMQBackend", "aadd", "RUNNING"),
        ("started", "EMQBackend", "acontext", "RUNNING"),
    ]


def test_failures() -> None:
    result, dead = tasks.fail.enqueue("no such person"), tasks.dead.enqueue()
    work()
    result.refresh()
    assert result.status == TaskResultStatus.FAILED and result.is_finished and result.attempts == 1
    (error,) = result.errors
    assert error.exception_class is ValueError
    assert error.traceback.startswith("Traceback") and error.traceback.endswith("ValueError: no such person")
    # The traceback begins in the function.
    assert "emq/django" not in error.traceback
    with pytest.raises(ValueError, match="Task failed"):
        result.return_value  # noqa: B018
    dead.refresh()
    assert dead.status == TaskResultStatus.FAILED and dead.errors[0].traceback == "never"
    assert [event[2:] for event in tasks.events if event[0] == "finished"] == [("fail", "FAILED"), ("dead", "FAILED")]


def test_retries_and_context() -> None:
    result = tasks.second_time.enqueue("hello")
    work("--backend", "retrying")
    result.refresh()
    assert result.return_value == ["hello", 2, True]
    assert result.attempts == 2 and result.errors[0].exception_class is ConnectionError
    # The first failure was not the end.
    assert [event[0] for event in tasks.events] == ["started", "started", "finished"]


def test_states(emq_client: emq.Client) -> None:
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    delayed = tasks.add.using(run_after=later, priority=100).enqueue(1, 2)
    record = emq_client.task(delayed.id)
    assert (record["state"], record["priority"]) == ("delayed", 100)
    assert abs(record["due"] - later.timestamp()) < 0.01
    assert tasks.add.get_result(delayed.id).status == TaskResultStatus.READY

    low, high = tasks.add.using(priority=-100).enqueue(1, 2), tasks.add.using(priority=50).enqueue(1, 2)
    (task,) = emq_client.wait(["default"])
    assert task.id == high.id
    high.refresh()
    assert high.status == TaskResultStatus.RUNNING and high.started_at is not None and high.finished_at is None
    with pytest.raises(ValueError, match="has not finished"):
        high.return_value  # noqa: B018
    emq_client.nak(task, dead=True)
    emq_client.cancel(low.id)
    for result, reason in ((high, "dead"), (low, "cancelled")):
        result.refresh()
        assert result.status == TaskResultStatus.FAILED
        assert result.errors[0].exception_class is emq.django.WorkerLost and reason in result.errors[0].traceback


def test_unknown_results(emq_client: emq.Client) -> None:
    other = emq_client.enqueue("default", "hello").id
    foreign = emq_client.enqueue("default", {"task": "djangosite.tasks.not_a_task"}).id
    missing = tasks.add.enqueue(1, 2).id
    emq_client.purge("default")
    for id in (other, foreign, missing, "nonsense", ""):
        with pytest.raises(TaskResultDoesNotExist):
            default_task_backend.get_result(id)
    with pytest.raises(TaskResultMismatch):
        tasks.fail.get_result(tasks.add.enqueue(1, 2).id)


def test_what_is_no_task_comes_again(emq_client: emq.Client) -> None:
    names = ["djangosite.tasks.not_a_task", "djangosite.tasks.nothing", "nowhere.task", ".task", "..a"]
    ids = [emq_client.enqueue("default", {"task": name}, max_retries=3).id for name in names]
    work()
    errors = [emq_client.task(id)["error"] for id in ids]
    assert "is not a task of Django" in errors[0]
    assert "there is no task" in errors[1] and "there is no task" in errors[2]
    assert "not the path of a task" in errors[3] and "not the path of a task" in errors[4]
    assert [emq_client.task(id)["state"] for id in ids] == ["delayed"] * 5


def test_refused_before_sending(emq_client: emq.Client) -> None:
    with pytest.raises(TypeError):
        tasks.add.enqueue(object(), 1)
    with pytest.raises(InvalidTask, match="Queue 'nowhere'"):
        tasks.add.using(queue_name="nowhere")
    with pytest.raises(InvalidTask, match="aware datetime"):
        tasks.add.using(run_after=datetime.datetime.now())
    assert emq_client.stats("default")["ready"] == 0


def test_enqueued_signal(emq_client: emq.Client) -> None:
    seen: list[str] = []

    def receive(task_result: Any, **_: Any) -> None:
        seen.append(task_result.id)

    task_enqueued.connect(receive)
    try:
        assert [tasks.add.enqueue(1, 2).id] == seen
    finally:
        task_enqueued.disconnect(receive)


def test_checks(tmp_path: Path) -> None:
    def settings(**values: Any) -> Any:
        return override_settings(TASKS={"default": {"BACKEND": "emq.django.EMQBackend", **values}})

    call_command("check")
    with settings(OPTIONS={"retries": 3}), pytest.raises(SystemCheckError, match=r"(?s)emq\.E001.*no 'retries'"):
        call_command("check")
    for wrong in ({"url": "ftp://here"}, {"token": "a b"}, {"url": "https://here", "ca": str(tmp_path / "missing")}):
        with settings(OPTIONS=wrong), pytest.raises(SystemCheckError, match=r"emq\.E002"):
            call_command("check")
    with settings(QUEUES=["a\nb"]), pytest.raises(SystemCheckError, match=r"emq\.E003"):
        call_command("check")
    with settings(OPTIONS={"url": "ftp://here"}), pytest.raises(ImproperlyConfigured, match="OPTIONS of TASKS"):
        tasks.add.enqueue(1, 2)


def test_wrong_usage_of_the_worker() -> None:
    for arguments, message in (
        (["--backend", "nothing"], "nothing"),
        (["--backend", "other"], "DummyBackend, not an emq"),
        (["--jobs", "0"], "from 1 to 1000"),
        (["--grace", "soon"], "must be a duration"),
    ):
        with pytest.raises(CommandError, match=message):
            work(*arguments)
        command = [sys.executable, str(HERE / "djangosite" / "manage.py"), "emq_work", *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("pool", ["threads", "asyncio", "processes"])
def test_the_command_in_a_process_of_its_own(pool: str, tmp_path: Path) -> None:
    results = [tasks.add.enqueue(n, 1) for n in range(5)] + [tasks.aadd.enqueue(1, 2)]
    pid = tasks.where.enqueue()
    command = [sys.executable, str(HERE / "djangosite" / "manage.py"), "emq_work", "--exit-when-empty"]
    worker = subprocess.Popen([*command, "--pool", pool, "--jobs", "2"], cwd=tmp_path)
    assert worker.wait(120) == 0
    for result in results:
        result.refresh()
    assert [result.return_value for result in results] == [1, 2, 3, 4, 5, [3, "tuple"]]
    pid.refresh()
    assert (pid.return_value == worker.pid) == (pool != "processes")


@pytest.mark.parametrize("quiet", [False, True])
def test_each_line_is_logged_once(quiet: bool) -> None:
    result = tasks.add.enqueue(1, 2)
    tasks.fail.enqueue("on purpose")
    command = [sys.executable, str(HERE / "djangosite" / "manage.py"), "emq_work", "--exit-when-empty"]
    command += ["--quiet"] if quiet else []
    worker = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SITE_DEBUG": "1"})
    assert worker.returncode == 0
    # Django logs this with settings.DEBUG.
    assert worker.stderr.count(f"Task id={result.id} path=djangosite.tasks.add state=RUNNING") == 1
    assert worker.stderr.count("has failed in attempt 1") == 1
    assert worker.stderr.count("working on default, mail at ") == (0 if quiet else 1)


def test_old_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connections
    from django.db.backends.base.base import BaseDatabaseWrapper

    closed: list[str] = []
    # CONN_MAX_AGE is 0: Django closes connections at the end of each request.
    monkeypatch.setattr(BaseDatabaseWrapper, "close_if_unusable_or_obsolete", lambda self: closed.append(self.alias))
    assert connections.settings["default"]["CONN_MAX_AGE"] == 0
    for task in (tasks.leave_connection_open, tasks.aleave_connection_open):
        closed.clear()
        task.enqueue()
        work()
        assert "default" in closed


def test_backends_share_clients(emq_client: emq.Client) -> None:
    backend = task_backends["default"]
    same = type(backend)("default", {"OPTIONS": {}})
    other = type(backend)("default", {"OPTIONS": {"timeout": 3}})
    assert same.client is backend.client and other.client is not backend.client
    with pytest.raises(dataclasses.FrozenInstanceError):
        tasks.add.enqueue(1, 2).id = "other"
