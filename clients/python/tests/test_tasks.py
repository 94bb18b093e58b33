"""How work on tasks ends, whose leases are extended meanwhile, and what `tasks` yields; by both clients."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest
from core import ScriptedServer, Threads, closing, eventually

import emq
from emq._task import MAXIMUM_ERROR_BYTES, bounded_error, description
from emq.testing import Server


FORWARD, SILENCE = ScriptedServer.FORWARD, ScriptedServer.SILENCE


def take(client: Any, queue: str, **options: Any) -> emq.Task:
    [task] = client.wait(queue, 30, **options)
    return task


class Interruption(BaseException):
    """Like KeyboardInterrupt, which would end the tests."""


def test_the_end_of_the_body_acknowledges(client: Any, queue: str) -> None:
    client.enqueue_many(queue, [{"content": "a", "keep": 60}, {"content": "b", "keep": 60}])
    with client.working(take(client, queue)) as task:
        task.result, task.log = {"n": 1}, "x" * 100_000 + "end"
    record = client.task(task.id)
    assert record["state"] == "done" and record["result"] == {"n": 1} and record["log"].endswith("xend")
    with client.working(take(client, queue)) as task:
        pass
    assert client.task(task.id)["state"] == "done" and "result" not in client.task(task.id)
    assert "attempt 1" in repr(task) and queue in repr(task)


def test_an_exception_refuses_with_the_traceback(
    client: Any, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.enqueue(queue, backoff=60)
    with client.working(take(client, queue)) as task:
        raise KeyError("customer")
    record = client.task(task.id)
    assert record["state"] == "delayed" and record["retries"] == 1
    assert record["error"].startswith("Traceback (most recent call last):\n")
    assert record["error"].endswith("\nKeyError: 'customer'") and __file__ in record["error"]
    assert [entry.levelno for entry in caplog.records if task.id in entry.getMessage()] == [logging.ERROR]


def test_outcomes_say_how_the_task_ends(client: Any, queue: str) -> None:
    client.enqueue(queue, backoff=60, keep=60)
    with client.working(take(client, queue)) as task:
        raise emq.Retry("not yet", after=0)
    with client.working(take(client, queue)) as task:
        assert task.attempt == 2
        raise emq.Release(after=0.01)
    with client.working(take(client, queue)) as task:
        assert task.attempt == 2
        raise emq.Release
    assert client.task(task.id)["error"] == "not yet"
    with client.working(take(client, queue)) as task:
        try:
            raise ValueError("bad address")
        except ValueError as error:
            raise emq.Dead from error
    record = client.task(task.id)
    assert record["state"] == "dead" and record["error"].endswith("ValueError: bad address")
    client.kick(queue)
    with client.working(take(client, queue)) as task:
        raise emq.Retry(after=30)
    assert client.task(task.id)["due"] - time.time() > 20
    with pytest.raises(ValueError):
        emq.Retry(after=-1)
    with pytest.raises(TypeError):
        emq.Release(after="5")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Interruption, GeneratorExit, SystemExit])
def test_interruptions_give_the_task_back(client: Any, queue: str, kind: type[BaseException]) -> None:
    client.enqueue(queue, max_retries=0)
    with pytest.raises(kind), client.working(take(client, queue)) as task:
        raise kind
    record = client.task(task.id)
    assert record["state"] == "ready" and record["retries"] == 0
    assert take(client, queue).attempt == 1


@pytest.mark.parametrize("result", [object(), float("nan"), "x" * (65 << 20)])
def test_a_result_that_cannot_be_stored_kills_the_task(client: Any, queue: str, result: object) -> None:
    client.enqueue(queue)
    with client.working(take(client, queue)) as task:
        task.result = result
    record = client.task(task.id)
    assert record["state"] == "dead" and "result" in record["error"] or "task ended" in record["error"]


def test_extends_leases_while_work_goes_on(client: Any, queue: str) -> None:
    client.enqueue_many(queue, [{"lease": 0.4, "max_retries": 0}] * 3)
    tasks = client.wait(queue, 30, max=3)
    first, second, third = [client.working(task) for task in tasks]
    with first, second:
        time.sleep(0.1)
        with third:
            time.sleep(1.0)
    assert not any(task.lost for task in tasks)
    assert client.stats(queue)["totals"]["acked"] == 3 and client.stats(queue)["totals"]["timed_out"] == 0


def test_work_that_begins_late_extends_its_lease_at_once(client: Any, queue: str) -> None:
    client.enqueue(queue, lease=3, max_retries=0)
    task = take(client, queue)
    time.sleep(2.2)
    with client.working(task):
        time.sleep(1.5)
    assert not task.lost and client.stats(queue)["totals"]["acked"] == 1


def test_a_report_gets_through_though_its_connection_is_dead(make: Any, shared_server: Server, queue: str) -> None:
    with ScriptedServer(FORWARD, FORWARD, SILENCE, target=shared_server.port) as way:
        client = make(way.url)
        client.enqueue(queue, lease=6, max_retries=0)
        with client.working(take(client, queue)) as task:
            pass
        assert not task.lost and way.requests[2] == way.requests[3]
    assert make(shared_server.url).stats(queue)["totals"]["acked"] == 1


def test_a_lost_lease_is_told_and_nothing_is_reported(
    client: Any, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.enqueue_many(queue, [{"lease": 0.3}, {"lease": 60}, {"lease": 60}])
    cancelled, late, failing = client.wait(queue, 30, max=3)
    with client.working(cancelled) as task:
        client.cancel(task.id)
        eventually(lambda: task.lost, "the loss")
    with client.working(late) as task:
        client.cancel(task.id)
    assert late.lost
    with client.working(failing) as task:
        task.lost = True
        raise ValueError("after the loss")
    assert client.task(failing.id)["state"] == "dispatched"
    assert client.stats(queue)["totals"]["acked"] == client.stats(queue)["totals"]["nacked"] == 0
    assert len([entry for entry in caplog.records if "the lease is lost" in entry.getMessage()]) == 2


def test_a_task_needs_the_right_kind_of_with(shared_server: Server, queue: str) -> None:
    with emq.Client(shared_server.url) as client:
        client.enqueue(queue)
        task = take(client, queue)
        with pytest.raises(TypeError, match="Client"):
            task.__aenter__().send(None)
        record = {"id": "x", "queue": "q", "attempt": 1, "retry": 5, "receipt": "x@1"}
        with pytest.raises(TypeError), emq.Task(record):
            pass


# MARK: The loop


def test_yields_tasks_until_it_should_stop(client: Any, queue: str) -> None:
    client.enqueue_many(queue, [{"content": index, "keep": 60} for index in range(7)])
    client.enqueue(queue + "2", 7)
    stop, seen = threading.Event(), []
    for task in client.tasks(queue, queue + "2", max=3, lease=5, stop=stop, worker=queue):
        with client.working(task):
            seen.append(task.content)
            assert task.lease == 5 and client.task(task.id)["worker"] == queue
            if task.content == 3:
                raise emq.Dead("three")
            if len(seen) == 8:
                stop.set()
    assert seen == list(range(8))
    assert client.stats(queue)["totals"]["acked"] == 6 and client.stats(queue)["dead"] == 1
    with pytest.raises(ValueError):
        client.tasks()


@pytest.mark.parametrize("end", ["break", "stop", "close"])
def test_tasks_that_nobody_got_go_back(client: Any, make: Any, queue: str, end: str) -> None:
    other = make(client.url)
    client.enqueue_many(queue, [{"content": index, "lease": 0.3, "max_retries": 0} for index in range(5)])
    stopped = False
    iteration = other.tasks(queue, max=5, stop=lambda: stopped)
    task = next(iteration)
    assert client.stats(queue)["dispatched"] == 5
    with other.working(task):
        # Longer than their leases.
        time.sleep(0.7)
    assert client.stats(queue)["totals"]["timed_out"] == 0 and client.stats(queue)["dispatched"] == 4
    if end == "break":
        iteration.close()
    elif end == "close":
        other.close()
        assert list(iteration) == []
    else:
        stopped = True
        assert list(iteration) == []
    eventually(lambda: client.stats(queue)["ready"] == 4)
    assert client.stats(queue)["totals"]["released"] == 4
    assert [task["content"] for task in client.peek(queue, 10)] == [1, 2, 3, 4]


def test_a_task_that_was_cancelled_before_its_turn_is_left_out(client: Any, queue: str) -> None:
    added = client.enqueue_many(queue, [{"content": index, "lease": 0.3} for index in range(3)])
    seen = []
    for task in client.tasks(queue, max=3):
        with client.working(task):
            if not seen:
                client.cancel(added[1].id)
                time.sleep(0.7)
            seen.append(task.content)
        if len(seen) == 2:
            break
    assert seen == [0, 2]


@pytest.mark.parametrize("how", ["stop", "close"])
def test_a_wait_ends_at_once_and_takes_no_task(client: Any, make: Any, queue: str, how: str) -> None:
    other, stop = make(client.url), threading.Event()
    seen: list[Any] = []
    loop = threading.Thread(target=lambda: seen.extend(other.tasks(queue, stop=stop)), daemon=True)
    wait = threading.Thread(target=lambda: seen.extend(closing(lambda: other.wait(queue, 50))), daemon=True)
    loop.start()
    if how == "close":
        wait.start()
    eventually(lambda: client.stats(queue)["waiters"] == (2 if how == "close" else 1))
    if how == "close":
        other.close()
        wait.join(20)
    else:
        stop.set()
    loop.join(20)
    assert not loop.is_alive() and not wait.is_alive()
    eventually(lambda: client.stats(queue)["waiters"] == 0)
    client.enqueue(queue)
    assert client.stats(queue)["ready"] == 1 and seen == []


def test_work_can_be_finished_after_the_client_was_closed(client: Any, make: Any, queue: str) -> None:
    other = make(client.url)
    client.enqueue(queue)
    with other.working(take(other, queue)):
        other.close()
    assert client.stats(queue)["totals"]["acked"] == 1
    with pytest.raises(emq.ClientClosed):
        other.stats(queue)
    with pytest.raises(emq.ClientClosed):
        other.wait(queue, 5)
    assert list(other.tasks(queue)) == []
    other.close()


def test_goes_on_when_the_server_comes_back(make: Any, tmp_path: Any) -> None:
    with Server(data=tmp_path, arguments=["--drain", "0"]) as server:
        client, producer = make(server.url), Threads(server.url, tries=50, timeout=60)
        producer.enqueue_many("q", [{"content": index, "keep": 600} for index in range(4)])
        seen: list[int] = []
        timers: list[threading.Timer] = []
        for task in client.tasks("q", max=2):
            with client.working(task):
                seen.append(task.content)
                if len(seen) in (1, 3):
                    for timer in timers:
                        timer.join()
                    # What the work has done is reported when the server is back.
                    server.stop()
                    timers.append(threading.Timer(0.5, server.start))
                    timers[-1].start()
            if len(seen) == 4:
                break
        for timer in timers:
            timer.join()
        assert seen == [0, 1, 2, 3]
        assert producer.stats("q")["done"] == 4
        producer.close()


def test_other_errors_end_the_loop(client: Any, queue: str) -> None:
    with pytest.raises(emq.InvalidRequest):
        next(client.tasks(queue, max=0))
    with pytest.raises(emq.InvalidRequest):
        next(client.tasks("a\nb"))


# MARK: Texts of errors


def test_long_errors_lose_their_middle() -> None:
    text = bounded_error("first line\n" + "ä" * 20_000 + "\nlast line")
    assert text is not None and len(text.encode()) <= MAXIMUM_ERROR_BYTES
    assert text.startswith("first line\n") and text.endswith("\nlast line") and "…" in text
    assert bounded_error("\ud800") == "\\ud800" and bounded_error("") is None


def test_descriptions_end_with_what_to_group_by() -> None:
    def described(error: BaseException) -> list[str]:
        try:
            raise error
        except BaseException as raised:
            return description(raised).split("\n")

    assert described(ValueError("x"))[0] == "Traceback (most recent call last):"
    assert described(ValueError("x"))[-1] == "ValueError: x"
    assert described(ValueError("two\nlines"))[0] == "ValueError: two"
    assert described(ValueError(""))[-1] == "ValueError"
    if hasattr(ValueError, "add_note"):
        error = ValueError("x")
        error.add_note("request 17")
        assert described(error)[0] == "ValueError: x" and described(error)[-1] == "request 17"
        group = ExceptionGroup("many", [ValueError("a"), KeyError("b")])  # noqa: F821
        assert described(group)[0] == "ExceptionGroup: many (2 sub-exceptions)"
