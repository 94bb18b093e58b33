"""Each request of the interface, by both clients, against the real server."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from core import eventually

import emq

UNKNOWN_ID = "AaItfZb6cACz1pbtpJF1Iw"


def take(client: Any, queue: str) -> emq.Task:
    [task] = client.wait(queue, 30)
    return task


def test_a_task_comes_as_it_was_enqueued(client: Any, queue: str) -> None:
    content = {"ä": [1, 2.5, None, True, "\u2028\0"], "big": 12345678901234567890, "deep": {"a": {}}}
    added = client.enqueue(
        queue, content, lease=timedelta(minutes=1), metadata={"a": "b"}, key="k", priority=3, keep=60,
        max_retries=4, max_crashes=None, backoff={"min": 1, "max": 5}, expiry=None, request_id="r-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )  # fmt: skip
    assert added == (added.id, False)
    record = client.task(added.id)
    assert (record["content"], record["retry"], record["priority"], record["keep"]) == (content, 60, 3, 60)
    assert (record["max_retries"], record["max_crashes"], record["backoff"]) == (4, None, {"min": 1, "max": 5})
    assert "expires" not in record and record["state"] == "ready"
    task = take(client, queue)
    assert (task.id, task.queue, task.content, task.attempt, task.lease) == (added.id, queue, content, 1, 60)
    assert (task.key, task.metadata, task.request_id) == ("k", {"a": "b"}, "r-1")
    assert task.traceparent == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert task.receipt.startswith(task.id + "@")
    assert client.touch(task, lease=120, progress={"half": 0.5}) == {"touched": 1, "missing": []}
    assert client.task(task.id)["progress"] == {"half": 0.5}
    assert client.ack(task, {"sum": 3}, log="all went well") == {"acked": 1, "missing": []}
    assert client.result(task.id) == {"state": "done", "result": {"sum": 3}}
    assert client.task(task.id)["log"] == "all went well"
    client.delete_result(task.id)
    assert client.result(task.id) == {"state": "done"}
    client.cancel(task.id)
    with pytest.raises(emq.NoSuchTask):
        client.task(task.id)


def test_times_and_durations_may_be_objects(client: Any, queue: str) -> None:
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    by_time = client.task(client.enqueue(queue, eta=later).id)
    assert abs(by_time["due"] - later.timestamp()) < 0.01 and by_time["state"] == "delayed"
    by_delay = client.task(client.enqueue(queue, delay=timedelta(hours=1), expiry=timedelta(days=2)).id)
    assert abs(by_delay["due"] - time.time() - 3600) < 300
    assert abs(by_delay["expires"] - by_delay["due"] - 2 * 86400) < 0.01
    assert client.kick(queue, 1, state="delayed") == {"kicked": 1}
    assert client.peek(queue, state="delayed", n=10, content_limit=1)[0]["id"]


def test_many_tasks_at_once(client: Any, queue: str) -> None:
    client.enqueue(queue, key="taken")
    added = client.enqueue_many(
        queue, [{"content": 1}, emq.NewTask(2, priority=5), {"key": "taken"}, {"key": "new", "delay": 60}, {}]
    )
    assert [task.existing for task in added] == [False, False, True, False, False]
    assert len({task.id for task in added}) == 5
    taken = client.wait(queue, max=10)
    assert [task.content for task in taken] == [2, None, 1, None]
    assert client.ack_each([(task, {"n": index}) for index, task in enumerate(taken)])["acked"] == 4
    with pytest.raises(emq.InvalidRequest) as error:
        client.enqueue_many(queue, [{}, {"priority": 1000}])
    assert error.value.field == "[1].priority" and error.value.status == 400
    assert client.stats(queue)["ready"] == 0
    with pytest.raises(ValueError):
        client.enqueue_many(queue, [])
    with pytest.raises(TypeError):
        client.enqueue_many(queue, [{"retry": 3}])
    with pytest.raises(TypeError):
        client.enqueue_many(queue, [7])


@pytest.mark.parametrize("content", [{1, 2}, object(), b"bytes", float("nan"), float("inf"), "\ud800", {(1,): 2}])
def test_content_that_is_no_json_is_refused_before_it_is_sent(client: Any, queue: str, content: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        client.enqueue(queue, content)
    with pytest.raises((TypeError, ValueError)):
        client.enqueue_many(queue, [{}, {"content": content}])
    assert client.stats(queue)["totals"]["enqueued"] == 0


def test_bad_arguments_are_refused_before_anything_is_sent(client: Any, queue: str) -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for wrong in (cycle, deep):
        with pytest.raises(ValueError):
            client.enqueue(queue, wrong)
    for options in ({"lease": "60"}, {"delay": True}, {"eta": "now"}, {"request_id": 7}):
        with pytest.raises(TypeError):
            client.enqueue(queue, **options)
    for options in ({"lease": float("nan")}, {"request_id": "a\r\nb: c"}, {"traceparent": ""}):
        with pytest.raises(ValueError):
            client.enqueue(queue, **options)
    for name in ("", None):
        with pytest.raises((ValueError, TypeError)):
            client.enqueue(name)
    with pytest.raises(ValueError):
        client.wait(queue, -1)
    with pytest.raises(TypeError):
        client.ack([7])
    with pytest.raises(emq.InvalidRequest):
        client.enqueue("a\nb")
    assert client.stats(queue)["totals"]["enqueued"] == 0


def test_waits_take_acknowledge_and_time_out(client: Any, queue: str) -> None:
    assert client.wait([queue, queue + "2"], 0.05) == []
    client.enqueue_many(queue, [{"content": index} for index in range(3)])
    first = take(client, queue)
    second = client.wait([queue + "2", queue], 1, max=1, ack=first, lease=7.5, worker="host-7")
    assert [task.content for task in second] == [1] and second[0].lease == 7.5 and second.missing == ()
    assert client.task(second[0].id)["worker"] == "host-7"
    third = client.wait(queue, ack=[first, second[0].receipt])
    assert third.missing == (first.receipt,)
    assert [task and task.content for task in client.places([queue, queue], 0.05)] == [None, None]
    client.enqueue(queue, "x")
    assert [task and task.content for task in client.places([queue, queue], 0.05)] == ["x", None]


def test_naks_retry_kill_and_release(client: Any, queue: str) -> None:
    client.enqueue(queue, backoff=0)
    assert client.nak(take(client, queue), "no route", log="line") == {"requeued": 1, "dead": 0, "missing": []}
    task = take(client, queue)
    assert task.attempt == 2
    assert client.nak(task, delay=0.01, release=True)["requeued"] == 1
    task = take(client, queue)
    assert task.attempt == 2
    assert client.nak(task.receipt, "x" * 20_000 + "end", dead=True)["dead"] == 1
    record = client.task(task.id)
    assert record["state"] == "dead" and record["error"].endswith("end") and len(record["error"]) < 10_001
    assert client.nak([task.receipt]) == {"requeued": 0, "dead": 0, "missing": [task.receipt]}
    groups = client.errors(queue)
    assert groups["groups"] == 1 and groups["errors"][0]["count"] == 1
    assert eventually(lambda: client.errors(match=queue.replace("*", "?"))["groups"] == 1)
    assert client.kick_tasks([task.id, UNKNOWN_ID]) == {"kicked": 1, "missing": [UNKNOWN_ID]}
    assert client.move_tasks([task.id], queue + "2") == {"moved": 1, "missing": []}
    assert client.move(queue + "2", queue) == {"moved": 1}


def test_keys_are_unique_and_can_be_freed(client: Any, queue: str) -> None:
    first = client.enqueue(queue, 1, key="a b/ü", unique_for=60)
    assert client.enqueue(queue, 2, key="a b/ü") == (first.id, True)
    assert client.enqueue(queue, 3, key="a b/ü", on_conflict="replace", unique_for=60) == (first.id, True)
    with pytest.raises(emq.KeyTaken):
        client.enqueue(queue, 4, key="a b/ü", on_conflict="reject")
    assert client.key(queue, "a b/ü")["content"] == 3
    with pytest.raises(emq.TaskUnfinished):
        client.free_key(queue, "a b/ü")
    client.ack(take(client, queue))
    kept = client.key(queue, "a b/ü")
    assert kept["id"] == first.id and "state" not in kept and kept["until"] > kept["since"]
    client.free_key(queue, "a b/ü")
    with pytest.raises(emq.NoSuchKey):
        client.key(queue, "a b/ü")


def test_a_result_can_be_waited_for(client: Any, queue: str) -> None:
    added = client.enqueue(queue)
    assert client.result(added.id, 0.05) == {"state": "ready"}
    with client.working(take(client, queue)) as task:
        task.result = [1, 2]
    with pytest.raises(emq.NoSuchTask):
        client.result(added.id)
    with pytest.raises(emq.NoSuchTask):
        client.cancel(UNKNOWN_ID)


def test_lists_go_on_page_by_page(client: Any, queue: str) -> None:
    client.enqueue_many(queue, [{"content": index} for index in range(5)])
    page = client.peek(queue, 2)
    assert [task["content"] for task in page] == [0, 1]
    page = client.peek(queue, 2, after=page[-1]["id"])
    assert [task["content"] for task in page] == [2, 3]
    assert client.peek(queue, 10, older_than=3600) == []
    with pytest.raises(emq.PageGone):
        client.peek(queue, after=UNKNOWN_ID)
    names = [f"{queue}/{letter}+" for letter in "abc"]
    for name in names:
        client.enqueue(name)
    found, after = [], None
    while True:
        page = client.queues(prefix=queue + "/", n=1, after=after)
        found += page
        after = page.next
        if after is None:
            break
    assert found == names
    assert list(client.all_stats(prefix=queue + "/", n=2)["queues"]) == names[:2]
    grouped = client.all_stats(prefix=queue, delimiter="/", trend=True, sort="ready", offset=0)
    assert sorted(row.get("group", row.get("queue")) for row in grouped["rows"]) == [queue, queue + "/"]
    # A queue has a history once the server has counted, which it does every five seconds.
    assert "history" in client.stats(queue, history="1m") and "history" not in client.stats(queue)


def test_queues_can_be_paused_and_purged(client: Any, queue: str) -> None:
    client.enqueue(queue)
    assert client.pause(queue) == {"paused": True}
    assert client.wait(queue) == []
    assert client.pause(queue + "x") == {"paused": True, "new": True}
    assert client.resume(queue) == {"paused": False} and client.resume(queue + "x") == {"paused": False}
    assert client.purge(queue, state="delayed") == {"purged": 0}
    assert client.purge(queue, state="all", newer_than=timedelta(hours=1)) == {"purged": 1}


def test_configurations_change_and_go(client: Any, make: Any, queue: str) -> None:
    assert client.put_config(queue, {"max_retries": 3, "retry": 5}, dry_run=True) == {"max_retries": 3, "retry": 5}
    assert client.config(queue) == {}
    client.put_config(queue, {"max_retries": 3, "retry": 5})
    assert client.patch_config(queue, {"retry": None, "keep": 1.5}) == {"max_retries": 3, "keep": 1.5}
    assert client.config(queue) == {"max_retries": 3, "keep": 1.5}
    client.delete_config(queue)
    assert client.config(queue) == {}
    client.put_config(queue, {"max_length": 1})
    client.enqueue(queue)
    with pytest.raises(emq.QueueFull) as error:
        make(client.url, tries=1).enqueue(queue)
    assert error.value.retry_after is not None and error.value.status == 429


def test_defaults_change_and_go(make: Any) -> None:
    from emq.testing import Server

    with Server() as server:
        client = make(server.url)
        assert client.put_defaults({"max_retries": 20}) == {"max_retries": 20}
        assert client.patch_defaults({"keep": 2}, dry_run=True) == {"max_retries": 20, "keep": 2}
        assert client.defaults() == {"max_retries": 20}
        client.delete_defaults()
        assert client.defaults() == {}


def test_sources_pause_and_go(client: Any, queue: str) -> None:
    try:
        source = client.put_source(queue, "amqp://ann:secret@127.0.0.1:1/", "orders", prefetch=5, unique_for=60)
    except emq.Unavailable as error:
        pytest.skip(f"the server has no librabbitmq: {error}")
    assert source["into"] == "orders" and "secret" not in source["amqp"]
    assert client.source(queue)["prefetch"] == 5 and queue in client.sources()
    assert client.pause_source(queue)["state"] == "paused"
    assert client.resume_source(queue)["state"] != "paused"
    client.delete_source(queue)
    with pytest.raises(emq.NoSuchSource):
        client.source(queue)


def test_shows_the_server(client: Any, queue: str) -> None:
    client.enqueue(queue, key=queue)
    client.wait(queue, worker=queue)
    assert client.healthz()["status"] == "ok"
    assert client.access()["permissions"]
    assert client.alerts()["status"] in ("ok", "warning", "critical")
    assert client.operations() == {"operations": []}
    with pytest.raises(emq.NotFound):
        client.stop_operation(12345)
    assert eventually(lambda: client.workers(match=queue)["workers"])[0]["held"] == 1
    found = client.search(queue)
    assert [task["key"] for task in found["tasks"]] == [queue] and found["queues"] == [queue]
    assert client.all_stats(n=1)["server"]["version"] == emq.__version__
    assert "emq_ready 1" in client.metrics()
    assert "emq_queue" in client.queue_metrics(match=queue, n=1)
    assert client.openapi()["openapi"].startswith("3.1")


def test_watches_queues(client: Any, queue: str) -> None:
    from urllib.parse import quote

    events = client.events([f"/peek/{quote(queue)}?n=9", f"/task/{UNKNOWN_ID}"], interval=1)
    assert next(events) == (0, 200, [])
    position, status, data = next(events)
    assert (position, status, data["type"]) == (1, 404, "urn:emq:error:no-such-task")
    client.enqueue(queue, {"text": "a\nb"})
    assert next(events).data[0]["content"] == {"text": "a\nb"}
    events.close()
    with pytest.raises(emq.InvalidRequest):
        next(client.events("/metrics"))
