"""What type checkers know of the clients: mypy and pyright check this file, and no test runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from typing import assert_type

import emq
from emq.types import Acked, Configuration, KeptKey, ListedTask, QueueStatistics, State, TaskRecord

with emq.Client("http://localhost:8080", token="t", timeout=5) as client:
    assert_type(client, emq.Client)
    assert_type(client.enqueue("q", {"a": 1}, delay=timedelta(minutes=1), expiry=None), emq.Enqueued)
    assert_type(client.enqueue("q").existing, bool)
    assert_type(client.enqueue_many("q", [{"content": 1}, emq.NewTask(2, key="k")]), list[emq.Enqueued])
    assert_type(client.wait(["a", "b"], 30, max=5, worker="me"), emq.TakenTasks)
    assert_type(client.places("a"), list[emq.Task | None])
    assert_type(client.ack(client.wait("a"), {"sum": 1}), Acked)
    assert_type(client.task("id")["state"], State)
    assert_type(client.key("q", "k"), TaskRecord | KeptKey)
    assert_type(client.peek("q", 5, state="dead"), emq.Page[ListedTask])
    assert_type(client.stats("q"), QueueStatistics)
    assert_type(client.stats("q")["ready"], int)
    assert_type(client.put_config("q", {"retry": 5, "push": {"url": "http://localhost/"}}), Configuration)
    assert_type(client.metrics(), str)
    assert_type(client.cancel("id"), None)
    assert_type(client.tasks("a", lease=60), Generator[emq.Task, None, None])
    assert_type(client.events(["/stats/q"]), Generator[emq.Event, None, None])
    for task in client.tasks("a", max=3):
        with task as same:
            assert_type(same, emq.Task)
            same.result = {"any": "value"}
        # The end of the body may have dealt with an exception, so this line can be reached.
        print("next")

    # What is wrong is told.
    client.enqueue(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.enqueue("q", retry=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.peek("q", state="sleepy")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.put_config("q", {"retyr": 5})  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportArgumentType]


async def main() -> None:
    async with emq.AsyncClient() as client:
        assert_type(client, emq.AsyncClient)
        assert_type(await client.enqueue("q", 1), emq.Enqueued)
        assert_type(await client.wait("q", 5), emq.TakenTasks)
        assert_type((await client.task("id"))["state"], State)
        assert_type(client.tasks("a"), AsyncGenerator[emq.Task, None])
        async for task in client.tasks("a", stop=asyncio.Event()):
            async with task as same:
                assert_type(same, emq.Task)
        async for event in client.events("/stats/"):
            assert_type(event.status, int)
        first, second = await asyncio.gather(client.healthz(), client.access())
        print(first["status"], second["permissions"])
        await client.enqueue("q", priority="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
