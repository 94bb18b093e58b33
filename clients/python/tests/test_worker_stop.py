"""How `python -m emq work` stops, and how it goes on when the server goes away."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support import WorkerProcess, call, notes, wait_until, write_app

import emq
from emq.testing import Server

POOLS = ["threads", "asyncio", "processes"]


@pytest.fixture
def folder(tmp_path: Path, emq_server: Server) -> Path:
    write_app(tmp_path)
    return tmp_path


def begin(client: emq.Client, folder: Path, pool: str, *names: str, seconds: float = 60.0) -> dict[str, str]:
    """Enqueues work that lasts until a file has its name."""
    function = "aslow" if pool == "asyncio" else "slow"
    return {name: client.enqueue("default", call(function, name, seconds), keep=600).id for name in names}


def state(client: emq.Client, id: str) -> tuple[str, int]:
    record = client.task(id)
    return record["state"], record.get("retries", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("pool", POOLS)
def test_a_signal_lets_functions_end(pool: str, number: signal.Signals, folder: Path, emq_client: emq.Client) -> None:
    ids = begin(emq_client, folder, pool, "one", "two", "three")
    with WorkerProcess(folder, "--pool", pool, "--jobs", "2") as worker:
        wait_until(lambda: len(notes(folder)) == 2)
        worker.signal(number)
        wait_until(lambda: "2 tasks in work have 25 s to end" in worker.log)
        for name in ids:
            (folder / name).touch()
        assert worker.end() == 0
        assert "stopped: 2 done" in worker.log
    assert sorted(emq_client.task(id)["state"] for id in ids.values()) == ["done", "done", "ready"]


@pytest.mark.parametrize("pool", POOLS)
def test_after_the_grace_tasks_go_back(pool: str, folder: Path, emq_client: emq.Client) -> None:
    ids = begin(emq_client, folder, pool, "one", "two")
    with WorkerProcess(folder, "--pool", pool, "--jobs", "2", "--grace", "300ms") as worker:
        wait_until(lambda: len(notes(folder)) == 2)
        worker.signal()
        assert worker.end() == 0
        assert "stopped: 0 done, 2 given back" in worker.log
    assert [state(emq_client, id) for id in ids.values()] == [("ready", 0)] * 2
    assert not any(note.startswith("ended") for note in notes(folder))
    if pool == "asyncio":
        assert "cancelled one" in notes(folder)


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.parametrize(("pool", "function"), [*((pool, "obey") for pool in POOLS), ("asyncio", "aobey")])
def test_what_returns_because_it_is_told_to_stop_is_not_done(
    pool: str, function: str, signals: int, folder: Path, emq_client: emq.Client
) -> None:
    id = emq_client.enqueue("default", call(function, "one"), keep=600).id
    with WorkerProcess(folder, "--pool", pool, "--grace", "300ms" if signals == 1 else "1h") as worker:
        wait_until(lambda: notes(folder))
        worker.signal()
        if signals == 2:
            wait_until(lambda: "asked to stop" in worker.log)
            worker.signal()
        assert worker.end() == 0
        assert "stopped: 0 done, 1 given back" in worker.log
        assert "starting another" not in worker.log and "Traceback" not in worker.log
    assert state(emq_client, id) == ("ready", 0)


@pytest.mark.parametrize("pool", POOLS)
def test_a_second_signal_gives_back_at_once(pool: str, folder: Path, emq_client: emq.Client) -> None:
    ids = begin(emq_client, folder, pool, "one")
    with WorkerProcess(folder, "--pool", pool, "--grace", "1h") as worker:
        wait_until(lambda: notes(folder))
        worker.signal()
        wait_until(lambda: "asked to stop" in worker.log)
        worker.signal(signal.SIGHUP)
        worker.signal(signal.SIGINT)
        assert worker.end() == 0
    assert state(emq_client, ids["one"]) == ("ready", 0)


@pytest.mark.parametrize("pool", POOLS)
def test_an_idle_worker_stops_at_once(pool: str, folder: Path, emq_client: emq.Client) -> None:
    with WorkerProcess(folder, "--pool", pool) as worker:
        wait_until(lambda: emq_client.stats("default")["waiters"] == 1)
        worker.signal()
        assert worker.end() == 0
        assert "stopped: 0 done" in worker.log
    assert emq_client.stats("default")["waiters"] == 0


def test_processes_end_with_a_worker_that_is_killed(folder: Path, emq_client: emq.Client) -> None:
    begin(emq_client, folder, "processes", "one")
    where = emq_client.enqueue("default", call("where"), keep=600, priority=1).id
    with WorkerProcess(folder, "--pool", "processes", "--jobs", "1") as worker:
        wait_until(lambda: notes(folder))
        child = emq_client.result(where)["result"][0]
        worker.process.kill()
        worker.process.wait()

        def has_ended() -> bool:
            try:
                os.kill(child, 0)
            except ProcessLookupError:
                return True
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

        wait_until(has_ended)


@pytest.mark.parametrize("pool", POOLS)
def test_a_server_that_is_killed_is_waited_for(pool: str, tmp_path: Path) -> None:
    write_app(tmp_path)
    with Server(data=tmp_path / "data") as server, server.client() as client:
        ids = begin(client, tmp_path, pool, "one")
        with WorkerProcess(tmp_path, "--pool", pool, url=server.url) as worker:
            wait_until(lambda: notes(tmp_path))
            # The server writes dispatches with what comes next, and responds to this when it is written.
            client.enqueue("other")
            server.kill()
            # The work ends while nobody can be told.
            (tmp_path / "one").touch()
            wait_until(lambda: "ended one" in notes(tmp_path))
            wait_until(lambda: "trying again" in worker.log)
            server.start()
            assert client.result(ids["one"], 60) == {"state": "done", "result": "one"}
            # It has not been done again.
            assert notes(tmp_path) == ["begun one", "ended one"]
            done = client.enqueue("default", call("add", 1, 2), keep=600).id
            assert client.result(done, 60) == {"state": "done", "result": 3}
            wait_until(lambda: "the server answers again" in worker.log)
            worker.signal()
            assert worker.end() == 0


def test_no_task_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    write_app(
        tmp_path,
        """
        import emq
        app = emq.App()

        @app.task(name="count")
        def count(n):
            with open("done", "a") as file:
                file.write(f"{n}\\n")
        """,
    )
    total = 2000
    # A task that was dispatched to nobody, because the server was killed meanwhile, comes after its lease.
    arguments = ["--recovery-grace", "5"]
    with Server(data=tmp_path / "data", arguments=arguments) as server, server.client(tries=50) as client:
        client.enqueue_many("default", [emq.NewTask(call("count", n), lease=5) for n in range(total)])
        done = tmp_path / "done"

        def count() -> int:
            return len(set(done.read_text().split())) if done.exists() else 0

        with WorkerProcess(tmp_path, "--jobs", "8", url=server.url) as worker:
            for share in (1, 2, 3):
                wait_until(lambda share=share: count() >= total * share // 5)  # type: ignore[misc]
                server.restart()
            wait_until(lambda: count() >= total and client.stats("default").get("dispatched") == 0)
            worker.signal()
            assert worker.end() == 0
        numbers = done.read_text().split()
        assert set(map(int, numbers)) == set(range(total))
        # A crash may make the server forget the last dispatches: at most those of the tasks that were in work.
        assert len(numbers) <= total + 3 * 8
        assert client.stats("default")["ready"] == 0


def test_a_server_that_cannot_be_reached_does_not_keep_a_worker(tmp_path: Path) -> None:
    write_app(tmp_path)
    with WorkerProcess(tmp_path, url="http://127.0.0.1:1") as worker:
        wait_until(lambda: "trying again" in worker.log)
        worker.signal()
        assert worker.end() == 0


def test_outcomes_that_cannot_be_reported_are_told(tmp_path: Path) -> None:
    write_app(tmp_path)
    with Server(data=tmp_path / "data") as server, server.client() as client:
        begin(client, tmp_path, "threads", "one")
        with WorkerProcess(tmp_path, url=server.url) as worker:
            wait_until(lambda: notes(tmp_path))
            server.kill()
            worker.signal()
            wait_until(lambda: "asked to stop" in worker.log)
            worker.signal()
            assert worker.end() == 1
            assert "the outcome of 1 task could not be reported" in worker.log
