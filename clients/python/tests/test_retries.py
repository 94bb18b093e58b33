"""What the clients do when connections break and servers refuse: they try again, and never do a thing twice."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import Any

import pytest
from core import ScriptedServer, answer, problem

import emq
from emq.testing import Server

CLOSE, RESET, REFUSE = ScriptedServer.CLOSE, ScriptedServer.RESET, ScriptedServer.REFUSE
SILENCE, LOSE = ScriptedServer.SILENCE, ScriptedServer.LOSE
BUSY = problem(503, "buffers-full")
TRUNCATED = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"


class LateCloser(ScriptedServer):
    """Closes the connection of the first request when three seconds of its wait are over."""

    def __init__(self, target: int) -> None:
        super().__init__("late", target=target)

    def _do(self, connection: socket.socket, request: bytes, action: Any) -> bool:
        if action != "late":
            return super()._do(connection, request, action)
        time.sleep(3)
        return False


@pytest.mark.parametrize("failure", [CLOSE, RESET, REFUSE, BUSY, (TRUNCATED, CLOSE), answer(502, "<html>"), LOSE])
def test_tries_again_and_adds_a_task_once(make: Any, shared_server: Server, queue: str, failure: Any) -> None:
    with ScriptedServer(failure, failure, target=shared_server.port) as server:
        client = make(server.url)
        added = client.enqueue(queue, {"n": 1})
        assert added.existing is False and client.task(added.id)["content"] == {"n": 1}
        assert client.stats(queue)["totals"]["enqueued"] == 1
        # Each try had the same key.
        bodies = {request.partition(b"\r\n\r\n")[2] for request in server.requests if request.startswith(b"POST")}
        assert len(bodies) == 1


def test_many_tasks_are_added_once(make: Any, shared_server: Server, queue: str) -> None:
    with ScriptedServer(LOSE, LOSE, target=shared_server.port) as server:
        tasks = [{"content": 1}, {"content": 2, "key": "k", "unique_for": 300}]
        added = make(server.url).enqueue_many(queue, tasks)
    client = make(shared_server.url)
    assert added[0].existing is False and client.stats(queue)["ready"] == 2
    assert [client.task(task.id)["content"] for task in added] == [1, 2]


@pytest.mark.parametrize(
    ("options", "repeated"),
    [
        ({"key": "k", "unique_for": 60}, True),
        ({"key": "k"}, False),
        ({"key": "k", "unique_for": 1}, False),
        ({"key": "k", "unique_for": 60, "on_conflict": "reject"}, False),
        ({"key": "k", "unique_for": 60, "on_conflict": "replace"}, False),
    ],
)
def test_own_keys_are_repeated_only_if_that_is_safe(
    make: Any, shared_server: Server, queue: str, options: dict[str, Any], repeated: bool
) -> None:
    for call in ("enqueue", "enqueue_many"):
        key = options["key"] + call
        with ScriptedServer(LOSE, target=shared_server.port) as server:
            client = make(server.url)

            def add(key: str = key, call: str = call, client: Any = client) -> None:
                if call == "enqueue":
                    client.enqueue(queue, **{**options, "key": key})
                else:
                    client.enqueue_many(queue, [{}, {**options, "key": key}])

            if repeated:
                add()
            else:
                with pytest.raises(emq.OutcomeUnknown) as raised:
                    add()
                assert isinstance(raised.value.__cause__, emq.ConnectionFailed)
                assert len(server.requests) == 1
    # Both calls have taken effect, once each.
    assert make(shared_server.url).stats(queue)["totals"]["enqueued"] == 3


def test_a_key_of_ones_own_is_tried_again_if_nothing_was_sent(make: Any, shared_server: Server, queue: str) -> None:
    with ScriptedServer(BUSY, BUSY, target=shared_server.port) as server:
        assert make(server.url).enqueue(queue, key="k").existing is False


@pytest.mark.parametrize("call", ["purge", "kick", "move", "kick_tasks", "move_tasks", "cancel", "nak", "patch_config"])
def test_what_could_happen_twice_is_not_repeated(make: Any, shared_server: Server, queue: str, call: str) -> None:
    id = make(shared_server.url).enqueue(queue).id
    arguments: dict[str, tuple[Any, ...]] = {
        "purge": (queue,), "kick": (queue,), "move": (queue, "q"), "kick_tasks": ([id],), "move_tasks": ([id], "q"),
        "cancel": (id,), "nak": (id,),
        # The second one would put the new secret in the place of the old one.
        "patch_config": (queue, {"push": {"secrets": ["whsec_" + "A" * 32, "***"]}}),
    }  # fmt: skip
    with ScriptedServer(LOSE, target=shared_server.port) as server:
        with pytest.raises(emq.OutcomeUnknown):
            getattr(make(server.url), call)(*arguments[call])
        assert len(server.requests) == 1


def test_repeated_reports_count_as_done(make: Any, shared_server: Server, queue: str) -> None:
    direct = make(shared_server.url)
    direct.enqueue_many(queue, [{"keep": 60, "backoff": 60} for _ in range(6)])
    tasks = direct.wait(queue, 30, max=6)
    gone = direct.wait(queue, ack=tasks[5])
    assert gone == []
    with ScriptedServer(LOSE, target=shared_server.port) as server:
        client = make(server.url)
        assert client.ack(tasks[0], 1) == {"acked": 1, "missing": []}
        server.script.append(LOSE)
        assert client.nak(tasks[1], "why")["missing"] == []
        server.script.append(LOSE)
        assert client.touch(tasks[2])["touched"] == 1
        server.script.append(LOSE)
        assert client.wait(queue, ack=tasks[2]).missing == ()
        server.script.append(LOSE)
        assert client.ack([tasks[3].id, tasks[4].receipt])["missing"] == [tasks[3].id]
        server.script.append(LOSE)
        client.delete_result(tasks[0].id)
        server.script.append(LOSE)
        assert client.put_config(queue, {"keep": 5}) == {"keep": 5}
    assert direct.ack(tasks[5])["missing"] == [tasks[5].receipt]
    assert direct.task(tasks[1].id)["retries"] == 1


def test_a_wait_whose_answer_is_lost_gets_its_tasks_later(make: Any, shared_server: Server, queue: str) -> None:
    make(shared_server.url).enqueue(queue, lease=0.3)
    with ScriptedServer(LOSE, target=shared_server.port) as server:
        # The real server has given the task to the proxy, so it comes again when the lease ends.
        [task] = make(server.url).wait(queue, 30)
        assert task.attempt == 2


@pytest.mark.parametrize("call", ["wait", "places", "result"])
def test_a_wait_that_is_repeated_ends_when_it_should(make: Any, shared_server: Server, queue: str, call: str) -> None:
    with LateCloser(target=shared_server.port) as server:
        client = make(server.url, timeout=2)
        added = make(shared_server.url).enqueue(queue, delay=60)
        if call == "result":
            assert client.result(added.id, 4) == {"state": "delayed"}
        else:
            found = getattr(client, call)(queue, 4)
            assert found == ([] if call == "wait" else [None])
        timeouts = [int(match) for request in server.requests for match in re.findall(rb'timeout[":=]+(\d+)', request)]
        assert timeouts[0] == 4000 and timeouts[1] <= 1000


def test_obeys_retry_after_within_the_timeout(make: Any) -> None:
    done = answer(200, '{"id":"x"}')
    with ScriptedServer(problem(429, "queue-full", "Retry-After: 1"), done) as server:
        started = time.monotonic()
        assert make(server.url).enqueue("q").id == "x"
        assert time.monotonic() - started >= 1
    with ScriptedServer(problem(503, "memory-full", "Retry-After: 30"), done) as server:
        started = time.monotonic()
        with pytest.raises(emq.StorageFull) as raised:
            make(server.url).enqueue("q")
        assert raised.value.retry_after == 30 and len(server.requests) == 1


def test_ends_after_its_tries(make: Any) -> None:
    with ScriptedServer(*[BUSY] * 9) as server:
        with pytest.raises(emq.Unavailable):
            make(server.url, tries=3).stats("q")
        assert len(server.requests) == 3
    with ScriptedServer(*[CLOSE] * 9) as server:
        with pytest.raises(emq.ConnectionFailed):
            make(server.url, tries=2).stats("q")
        assert len(server.requests) == 2
        with pytest.raises(emq.OutcomeUnknown):
            make(server.url, tries=2).enqueue("q")
    with ScriptedServer() as server:
        pass
    with pytest.raises(emq.ConnectionFailed) as raised:
        make(server.url, tries=2).enqueue("q")
    assert "POST /enqueue/q" in str(raised.value) and server.url in str(raised.value)


@pytest.mark.parametrize("type", ["library-missing", "too-many-sources", "address-space-full"])
def test_does_not_repeat_what_cannot_pass(make: Any, type: str) -> None:
    with ScriptedServer(problem(503, type)) as server:
        with pytest.raises(emq.Unavailable):
            make(server.url).stats("q")
        assert len(server.requests) == 1


def test_times_out(make: Any) -> None:
    with ScriptedServer(SILENCE, SILENCE, SILENCE) as server:
        with pytest.raises(emq.Timeout):
            make(server.url, timeout=0.2).stats("q")
        with pytest.raises(emq.OutcomeUnknown):
            make(server.url, timeout=0.2).enqueue("q")
        # The time that the server may wait counts on top.
        started = time.monotonic()
        with pytest.raises(emq.Timeout):
            make(server.url, timeout=0.2).wait("q", 0.5)
        assert time.monotonic() - started >= 0.7


def test_refuses_huge_answers(make: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    with ScriptedServer(head + b"X: " + b"x" * 100_000, head + b"Content-Length: 99999999999\r\n\r\n") as server:
        for _ in range(2):
            with pytest.raises(emq.UnexpectedAnswer):
                make(server.url, tries=1).stats("q")


def test_notices_that_a_kept_connection_was_closed(make: Any) -> None:
    done = answer(200, '{"id":"x"}')
    with ScriptedServer(*[done] * 4) as server:
        client = make(server.url, tries=1)
        client.enqueue("q", key="a")
        client.enqueue("q", key="b")
        assert server.connections == 1
        server.close_connections()
        # With one try and a key of its own, a failure would show.
        client.enqueue("q", key="c")
        assert server.connections == 2


def test_does_not_keep_connections_that_are_out_of_step(make: Any) -> None:
    closing = answer(200, '["b"]', "Connection: close")
    with ScriptedServer(answer(200, '["a"]') + b"extra", closing, answer(200, '["c"]')) as server:
        client = make(server.url)
        assert [client.queues() for _ in range(3)] == [["a"], ["b"], ["c"]]
        assert server.connections == 3


def test_sends_what_the_server_needs(make: Any, shared_server: Server, queue: str) -> None:
    with ScriptedServer(target=shared_server.port) as server:
        make(server.url + "/").enqueue(queue, "ä")
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert b"\r\nContent-Type: application/json\r\n" in head and b"\r\nUser-Agent: emq-python/" in head
        assert json.loads(body)["content"] == "ä" and "ä".encode() in body
