"""`python -m emq work`: outcomes in all three pools, queues, limits, leases and the brake."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from core import ScriptedServer
from support import WorkerProcess, call, notes, wait_until, work, write_app

import emq
from emq.testing import Server

POOLS = ["threads", "asyncio", "processes"]


@pytest.fixture
def folder(tmp_path: Path, emq_server: Server) -> Path:
    write_app(tmp_path)
    return tmp_path


def enqueue(client: emq.Client, name: str, *args: Any, **options: Any) -> str:
    return client.enqueue("default", call(name, *args), keep=600, **options).id


@pytest.mark.parametrize("pool", POOLS)
def test_results_and_failures(pool: str, folder: Path, emq_client: emq.Client) -> None:
    sums = [enqueue(emq_client, "add", n, 1) for n in range(20)]
    kinds = ["error", "dead", "retry", "release", "exit", "result", "nan"]
    ids = {kind: enqueue(emq_client, "fail", kind, max_retries=0) for kind in kinds if kind != "retry"}
    ids["retry"] = enqueue(emq_client, "fail", "retry", max_retries=1)
    current = enqueue(emq_client, "current", metadata={"team": "shop"})
    acurrent = enqueue(emq_client, "acurrent")
    log = work(folder, "--pool", pool, "--jobs", "3")
    assert [emq_client.result(id).get("result") for id in sums] == [n + 1 for n in range(20)]
    assert emq_client.result(current)["result"] == [current, "default", 1, {"team": "shop"}]
    assert emq_client.result(acurrent)["result"] == [acurrent]

    def state(kind: str) -> str:
        return emq_client.task(ids[kind])["state"]

    def error(kind: str) -> str:
        return emq_client.task(ids[kind]).get("error", "")

    assert state("error") == "dead"
    lines = error("error").splitlines()
    assert lines[0] == "Traceback (most recent call last):" and lines[-1] == "ValueError: no such person"
    # The traceback begins in the function, and is also in the worker's log.
    assert "tasks.py" in lines[1] and "_execution" not in error("error")
    assert "ValueError: no such person" in log
    assert re.search(r"warning task \S+ \(fail\) has failed in attempt 1:\n", log)
    assert re.search(r"warning task \S+ \(fail\) is dead after attempt 1: never\n", log)
    assert re.search(r"info task \S+ \(fail\) goes back to its queue \(again after 1000 s\)\n", log)
    assert (state("dead"), error("dead")) == ("dead", "never")
    assert (state("retry"), error("retry")) == ("delayed", "later")
    assert state("release") == "delayed" and emq_client.task(ids["release"]).get("retries", 0) == 0
    assert state("exit") == "dead" and "SystemExit: 3" in error("exit")
    assert state("result") == "dead" and "cannot be a result, which is JSON" in error("result")
    assert state("nan") == "dead" and "cannot be a result" in error("nan")
    assert "stopped: 22 done, 6 failed, 1 given back" in log


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_a_function_that_cannot_be_found_does_not_stop_the_worker(pool: Any, emq_client: emq.Client) -> None:
    class Importing(emq.App):
        def function_for(self, content: Any) -> Any:
            if content["task"] == "broken":
                raise SystemExit("a module ends the program when it is imported")
            return super().function_for(content)

    app = Importing()

    @app.task(name="add", keep=60)
    def add(a: int, b: int) -> int:
        return a + b

    broken = emq_client.enqueue("default", call("broken"))
    handle = add.enqueue(1, 2)
    app.work(exit_when_empty=True, pool=pool)
    assert handle.result(0) == 3
    assert "SystemExit: a module ends" in emq_client.task(broken.id)["error"]


def test_a_pause_that_the_server_refuses_does_not_hide_the_failure(emq_client: emq.Client) -> None:
    app = emq.App()

    @app.task(max_retries=0)
    def fetch() -> None:
        raise emq.Retry("busy", after=1e12)

    handle = fetch.enqueue()
    app.work(exit_when_empty=True)
    record = emq_client.task(handle.id)
    assert record["state"] == "dead" and record["error"] == "busy"


@pytest.mark.parametrize("pool", POOLS)
def test_content_with_long_integers(pool: str, folder: Path, emq_server: Server) -> None:
    # More digits than an int of Python takes.
    long = "7" * 5000
    with emq.Client(emq_server.url) as client:
        content = f'{{"content": {{"task": "add", "args": [{long}, 1]}}, "max_retries": 0}}'
        request = urllib.request.Request(
            f"{emq_server.url}/enqueue/default", content.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            id = json.load(answer)["id"]
        other = enqueue(client, "add", 1, 2)
        assert client.peek("default", 2)[0]["content"]["args"] == [Decimal(long), 1]
        work(folder, "--pool", pool)
        assert client.result(other) == {"state": "done", "result": 3}
        assert client.task(id)["state"] == "dead"


@pytest.mark.parametrize("pool", POOLS)
def test_what_is_no_call_has_failed_and_comes_again(pool: str, folder: Path, emq_client: emq.Client) -> None:
    unknown = emq_client.enqueue("default", call("subtract", 1)).id
    other = emq_client.enqueue("default", "hello").id
    work(folder, "--pool", pool)
    record = emq_client.task(unknown)
    assert record["state"] == "delayed"
    assert "no task 'subtract'; it has: acurrent, add," in record["error"]
    record = emq_client.task(other)
    assert record["state"] == "delayed" and "not a call of a function" in record["error"]


def test_where_functions_run(folder: Path, emq_client: emq.Client) -> None:
    def places(pool: str, name: str) -> list[Any]:
        ids = [enqueue(emq_client, name) for _ in range(8)]
        with WorkerProcess(folder, "--exit-when-empty", "--pool", pool, "-j", "2") as worker:
            assert worker.end() == 0, worker.log
            pid = worker.process.pid
        return [[place[0] == pid, place[1]] for place in (emq_client.result(id)["result"] for id in ids)]

    assert all(is_own and "emq-" in name for is_own, name in places("threads", "where"))
    assert all(is_own and "emq-" in name for is_own, name in places("threads", "awhere"))
    assert all(is_own and name == "emq-asyncio" for is_own, name in places("asyncio", "awhere"))
    assert all(is_own and name != "emq-asyncio" for is_own, name in places("asyncio", "where"))
    assert all(not is_own and name == "MainThread" for is_own, name in places("processes", "where"))
    assert all(not is_own for is_own, _ in places("processes", "awhere"))


@pytest.mark.parametrize("pool", POOLS)
def test_jobs_run_at_once_and_leases_are_extended(pool: str, folder: Path, emq_client: emq.Client) -> None:
    name = "aslow" if pool == "asyncio" else "slow"
    ids = [enqueue(emq_client, name, f"job{n}", lease=0.6) for n in range(3)]
    with WorkerProcess(folder, "--pool", pool, "--jobs", "3", "--exit-when-empty") as worker:
        wait_until(lambda: len(notes(folder)) == 3)

        def extended() -> bool:
            records = [emq_client.task(id) for id in ids]
            return all(r["state"] == "dispatched" and r["lease_end"] > r["dispatched"] + 1.5 for r in records)

        wait_until(extended)
        for n in range(3):
            (folder / f"job{n}").touch()
        assert worker.end() == 0
    assert [emq_client.result(id) for id in ids] == [{"state": "done", "result": f"job{n}"} for n in range(3)]
    assert [emq_client.task(id)["attempt"] for id in ids] == [1, 1, 1]


def test_a_connection_that_is_dead_costs_no_lease(folder: Path, emq_server: Server, emq_client: emq.Client) -> None:
    class Deaf(ScriptedServer):
        """A way to the server on which the first request that extends leases gets lost."""

        def _do(self, connection: Any, request: bytes, action: Any) -> bool:
            is_touch = request.startswith(b"POST /touch/")
            is_lost = is_touch and sum(other.startswith(b"POST /touch/") for other in self.requests) == 1
            return super()._do(connection, request, self.SILENCE if is_lost else action)

    id = enqueue(emq_client, "slow", "a", 9, lease=6, max_retries=0)
    with Deaf(target=emq_server.port) as way, WorkerProcess(folder, "--exit-when-empty", url=way.url) as worker:
        assert worker.end() == 0, worker.log
    assert emq_client.result(id) == {"state": "done", "result": "a"}


@pytest.mark.parametrize("pool", POOLS)
def test_the_loss_of_a_lease_is_told(pool: str, folder: Path, emq_client: emq.Client) -> None:
    name, end = ("aslow", "cancelled it") if pool == "asyncio" else ("wait_for_loss", "lost")
    id = enqueue(emq_client, name, *(["it"] if pool == "asyncio" else []), lease=0.6)
    with WorkerProcess(folder, "--pool", pool) as worker:
        wait_until(lambda: notes(folder))
        emq_client.cancel(id)
        wait_until(lambda: end in notes(folder))
        # The place is free again.
        done = enqueue(emq_client, "add", 1, 2)
        assert emq_client.result(done, 60)["state"] == "done"
        worker.signal()
        assert worker.end() == 0
        assert f"task {id} has lost its lease, or somebody has cancelled it" in worker.log
    assert emq_client.task(id)["state"] == "cancelled"


def test_a_result_that_is_too_large_is_dead(folder: Path, emq_client: emq.Client) -> None:
    write_app(
        folder,
        """
        import emq
        app = emq.App()

        @app.task(name="large")
        def large():
            return "x" * (65 << 20)
        """,
    )
    first, second = enqueue(emq_client, "large"), enqueue(emq_client, "large")
    work(folder)
    for id in (first, second):
        assert emq_client.task(id)["state"] == "dead"
        assert "the server refuses the result" in emq_client.task(id)["error"]


def test_queues_in_their_order_and_by_weight(folder: Path, emq_client: emq.Client) -> None:
    write_app(
        folder,
        """
        import emq
        app = emq.App()

        @app.task(name="note")
        def note():
            with open("order", "a") as file:
                file.write(emq.current_task().queue[0])
        """,
    )
    for _ in range(200):
        for queue in ("a", "b=1"):
            emq_client.enqueue(queue, call("note"))
    work(folder, "--queue", "b=1=1", "-q", "a=1000", "--max-tasks", "100")
    assert (folder / "order").read_text().count("a") > 60
    (folder / "order").unlink()
    work(folder, "--queue", "a", "--queue", "other")
    assert set((folder / "order").read_text()) == {"a"}
    assert emq_client.stats("b=1")["ready"] > 100


def test_limits_of_tasks_and_time(folder: Path, emq_client: emq.Client) -> None:
    for n in range(5):
        enqueue(emq_client, "add", n, n)
    with WorkerProcess(folder, "--jobs", "4", "--max-tasks", "3") as worker:
        assert worker.end() == 0
        assert "stopped: 3 done" in worker.log
    assert emq_client.stats("default")["ready"] == 2
    with WorkerProcess(folder, "--max-time", "300ms") as worker:
        assert worker.end() == 0
        assert "the time is over" in worker.log
    assert emq_client.stats("default")["ready"] == 0
    with WorkerProcess(folder, "--exit-when-empty=100ms", "--worker", "one") as worker:
        assert worker.end() == 0


def test_after_ten_failures_the_worker_slows_down(folder: Path, emq_client: emq.Client) -> None:
    for _ in range(30):
        enqueue(emq_client, "fail", "error")
    with WorkerProcess(folder, "--jobs", "4") as worker:
        wait_until(lambda: "10 tasks in a row have failed" in worker.log)
        assert emq_client.stats("default")["ready"] >= 10
        emq_client.purge("default")
        enqueue(emq_client, "add", 1, 1)
        wait_until(lambda: "working normally again" in worker.log)
        worker.signal(signal.SIGINT)
        assert worker.end() == 0


def test_the_task_of_a_process_that_dies_has_failed(folder: Path, emq_client: emq.Client) -> None:
    killed = enqueue(emq_client, "fail", "kill", max_retries=1)
    with WorkerProcess(folder, "--pool", "processes") as worker:
        wait_until(lambda: emq_client.task(killed)["state"] == "dead")
        record = emq_client.task(killed)
        assert record["error"] == "the worker process was ended by SIGKILL while it did the task"
        assert [attempt["outcome"] for attempt in record["attempts"]] == ["failed", "failed"]
        # Others go to the process that has replaced it.
        done = enqueue(emq_client, "add", 1, 2)
        assert emq_client.result(done, 60) == {"state": "done", "result": 3}
        worker.signal()
        assert worker.end() == 0
        assert "a worker process was ended by SIGKILL; starting another" in worker.log


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_a_test_can_work_in_its_own_process(pool: Any, emq_client: emq.Client) -> None:
    app = emq.App()

    @app.task(keep=60)
    def add(a: int, b: int) -> int:
        return a + b

    @app.task(keep=60, max_retries=0)
    async def fail() -> None:
        raise ValueError("no such person")

    sum, failure = add.enqueue(1, 2), fail.enqueue()
    app.work(exit_when_empty=True, pool=pool)
    assert sum.result(0) == 3
    with pytest.raises(emq.TaskFailed, match="ValueError: no such person"):
        failure.result(0)

    async def main() -> int:
        handle = await add.enqueue_async(3, 4)
        await app.work_async(exit_when_empty=True, pool=pool, queues=["default"], jobs=2)
        return await handle.result_async(0)

    assert asyncio.run(main()) == 7


def test_a_worker_that_is_cancelled_gives_its_tasks_back(folder: Path, emq_client: emq.Client) -> None:
    app = emq.App()
    begun = threading.Event()

    @app.task()
    async def forever() -> None:
        begun.set()
        await asyncio.sleep(3600)

    handle = forever.enqueue()

    async def main() -> None:
        working = asyncio.ensure_future(app.work_async())
        await asyncio.to_thread(begun.wait, 60)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    asyncio.run(main())
    record = emq_client.task(handle.id)
    assert (record["state"], record.get("retries", 0)) == ("ready", 0)


def test_wrong_arguments_of_work(emq_client: emq.Client) -> None:
    app = emq.App()
    with pytest.raises(ValueError, match="no tasks"):
        app.work()
    app.task()(print_nothing)
    with pytest.raises(ValueError, match="at least 1"):
        app.work(jobs=0)
    with pytest.raises(ValueError, match="pool must be"):
        app.work(pool="processes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list of names"):
        app.work(queues="default")


def print_nothing() -> None: ...
