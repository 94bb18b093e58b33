"""The server is killed and restarted under 50 working clients: nothing is lost, or done twice without need."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest
from core import PATIENCE, eventually

import emq
from emq.testing import Server

PRODUCERS, WORKERS, KILLS = 5, 20, 5
LEASE = 2


class Record:
    """What happened, from all threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.added: dict[str, str] = {}
        # By content: the id, and when the work began and was reported.
        self.done: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
        self.kills: list[float] = []
        self.producing, self.working = True, True
        self.producers = 2 * PRODUCERS
        self.failures: list[BaseException] = []

    def add(self, content: str, id: str) -> None:
        with self.lock:
            self.added[content] = id

    def finish(self, task: emq.Task, began: float) -> None:
        with self.lock:
            self.done[task.content].append((task.id, began, time.monotonic()))

    def guard(self, call: object) -> None:
        try:
            call()  # type: ignore[operator]
        except BaseException as error:
            self.failures.append(error)


def produce(record: Record, url: str, name: str) -> None:
    with emq.Client(url, timeout=60, tries=1000) as client:
        number = 0
        while record.producing:
            content = f"{name}-{number}"
            if number % 10:
                record.add(content, client.enqueue("crash", content).id)
            else:
                [one, two] = client.enqueue_many("crash", [{"content": content}, {"content": content + "+"}])
                record.add(content, one.id)
                record.add(content + "+", two.id)
                assert not one.existing and not two.existing
            number += 1
            time.sleep(0.002)
    with record.lock:
        record.producers -= 1


async def produce_async(record: Record, url: str, name: str) -> None:
    async with emq.AsyncClient(url, timeout=60, tries=1000) as client:
        number = 0
        while record.producing:
            content = f"{name}-{number}"
            record.add(content, (await client.enqueue("crash", content)).id)
            number += 1
            await asyncio.sleep(0.002)
    with record.lock:
        record.producers -= 1


def work(record: Record, url: str) -> None:
    with emq.Client(url) as client:
        for task in client.tasks("crash", max=3, lease=LEASE, stop=lambda: not record.working):
            began = time.monotonic()
            with task:
                time.sleep(0.002)
            record.finish(task, began)


async def work_async(record: Record, url: str) -> None:
    async with emq.AsyncClient(url) as client:
        async for task in client.tasks("crash", max=3, lease=LEASE, stop=lambda: not record.working):
            began = time.monotonic()
            async with task:
                await asyncio.sleep(0.002)
            record.finish(task, began)


def test_nothing_is_lost_when_the_server_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    generator = random.Random(seed)
    record = Record()
    arguments = ["--recovery-grace", str(LEASE)]
    with Server(data=tmp_path, arguments=arguments) as server, emq.Client(server.url, tries=1000) as observer:
        url = server.url

        async def coroutines() -> None:
            calls = [produce_async(record, url, f"coroutine{index}") for index in range(PRODUCERS)]
            calls += [work_async(record, url) for _ in range(WORKERS)]
            await asyncio.gather(*calls)

        calls = [lambda index=index: produce(record, url, f"thread{index}") for index in range(PRODUCERS)]
        calls += [lambda: work(record, url)] * WORKERS
        calls.append(lambda: asyncio.run(coroutines()))
        threads = [threading.Thread(target=record.guard, args=(call,), daemon=True) for call in calls]
        for thread in threads:
            thread.start()
        for _ in range(KILLS):
            before = len(record.done)
            eventually(lambda before=before: len(record.done) > before + 100 or record.failures, "work")
            time.sleep(generator.uniform(0, 0.3))
            record.kills.append(time.monotonic())
            server.kill()
            time.sleep(generator.uniform(0, 0.3))
            server.start()
            record.kills.append(time.monotonic())
        before = len(record.done)
        eventually(lambda: len(record.done) > before + 100 or record.failures, "work after the kills")
        record.producing = False
        eventually(lambda: record.failures or not record.producers, "the end of the producers")

        def is_empty() -> bool:
            stats = observer.stats("crash")
            return stats["ready"] == stats["dispatched"] == stats["delayed"] == 0

        eventually(lambda: record.failures or (is_empty() and len(record.done) >= len(record.added)), "the end")
        record.working = False
        for thread in threads:
            thread.join(PATIENCE)
        assert record.failures == [] and not any(thread.is_alive() for thread in threads)
        assert is_empty()

    assert len(record.added) > 500
    assert set(record.done) == set(record.added)
    again = 0
    for content, runs in record.done.items():
        # However often an enqueue was repeated, it added one task.
        assert {id for id, _, _ in runs} == {record.added[content]}, content
        for _, began, ended in sorted(runs, key=lambda run: run[1])[:-1]:
            # A task comes again only if its worker had it, or reported it, when the server was killed.
            assert any(began - LEASE < kill < ended for kill in record.kills), (content, runs, record.kills)
            again += 1
    assert again <= 6 * WORKERS * KILLS
    print(f"{len(record.added)} tasks, {again} done again")
