"""How requests share the connections of a client, when there are more requests than connections."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

import pytest
from core import ScriptedServer, answer, eventually

import emq
from emq.testing import Server


class Holding(ScriptedServer):
    """A server that answers the request of the action `hold` when it may."""

    def __init__(self, *script: Any) -> None:
        self.may_answer = threading.Event()
        super().__init__(*script)

    def _do(self, connection: socket.socket, request: bytes, action: Any) -> bool:
        if action != "hold":
            return super()._do(connection, request, action)
        self.may_answer.wait(60)
        return super()._do(connection, request, answer(200, "{}"))


def test_a_wait_in_line_does_not_hold_up_other_requests(make: Any) -> None:
    with Holding(*[ScriptedServer.SILENCE] * 3, "hold", answer(200, "{}")) as server:
        client = make(server.url, connections=4, timeout=20)
        done: list[str] = []

        def start(call: Any, *arguments: Any) -> None:
            def run() -> None:
                try:
                    call(*arguments)
                    done.append(call.__name__)
                except emq.Error:
                    pass

            threading.Thread(target=run, daemon=True).start()
            time.sleep(0.1)

        for count in (1, 2, 3):
            start(client.wait, "q", 60)
            eventually(lambda count=count: len(server.requests) == count)
        start(client.healthz)
        eventually(lambda: len(server.requests) == 4)
        # All connections are in use. The first one that is given back is none for another wait.
        start(client.wait, "q", 60)
        start(client.healthz)
        server.may_answer.set()
        eventually(lambda: len(done) == 2, "the end of both requests")
        client.close()


def test_a_handler_of_a_signal_may_close_the_client(shared_server: Server) -> None:
    ended = threading.Event()

    def close_inside(client: emq.Client) -> None:
        # As if the signal had come while the thread takes a connection, or notes a task.
        with client._pool._lock, client._keeper._changed:
            client.close()
        ended.set()

    client = emq.Client(shared_server.url)
    threading.Thread(target=close_inside, args=(client,), daemon=True).start()
    assert ended.wait(60)


def test_descriptors_may_have_any_number(shared_server: Server, queue: str) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 1300:
        pytest.skip("a process may not have as many descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 1300), limits[1]))
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with emq.Client(shared_server.url) as client:
            client.enqueue(queue, 1)
            client.healthz()
            for task in client.tasks(queue, stop=threading.Event()):
                with task:
                    break
            assert client.stats(queue)["totals"]["acked"] == 1
    finally:
        for other in others:
            os.close(other)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_addresses_of_a_host_share_the_time(monkeypatch: pytest.MonkeyPatch, shared_server: Server) -> None:
    # Connections to a listener whose queue is full hang.
    with socket.socket() as full, socket.socket() as filling:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filling.connect(full.getsockname())
        hanging = (socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())
        alive = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", shared_server.port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [hanging, hanging, alive])
        with emq.Client(shared_server.url, timeout=6, tries=1) as client:
            client.healthz()


def test_another_task_is_kept_after_one_that_found_no_thread(
    monkeypatch: pytest.MonkeyPatch, shared_server: Server, queue: str
) -> None:
    with emq.Client(shared_server.url) as client:
        client.enqueue_many(queue, [{"lease": 60}, {"lease": 1, "max_retries": 0}])
        first, second = client.wait(queue, max=2)

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="new thread"):
            patch.setattr(threading.Thread, "start", refuse)
            first.__enter__()
        with second:
            time.sleep(1.5)
        assert not second.lost


def test_closing_ends_waits_also_if_the_server_is_silent(make: Any) -> None:
    with Holding("hold", "hold") as server:
        client = make(server.url)
        errors: list[emq.Error] = []

        def wait() -> None:
            with pytest.raises(emq.ClientClosed) as raised:
                client.wait("q", 3000)
            errors.append(raised.value)

        threads = [threading.Thread(target=wait, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(server.requests) == 2)
        client.close()
        eventually(lambda: len(errors) == 2, "the end of both waits")
        server.may_answer.set()


def test_a_long_lease_does_not_cost_a_short_one(shared_server: Server, queue: str) -> None:
    forward, silence = ScriptedServer.FORWARD, ScriptedServer.SILENCE
    # The first request that extends the long lease gets lost, when the short one will soon be due.
    with (
        ScriptedServer(*[forward] * 3, silence, target=shared_server.port) as way,
        emq.Client(way.url) as client,
    ):
        client.enqueue_many(queue, [{"lease": 12}, {"lease": 3, "max_retries": 0}])
        with client.wait(queue)[0]:
            time.sleep(3.5)
            [short] = client.wait(queue)
            with short:
                time.sleep(3.5)
        assert not short.lost
