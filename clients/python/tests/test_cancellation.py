"""AsyncClient can be cancelled at every await: no task is lost, and the client works on."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import emq
from emq.testing import Server

CERTIFICATES = Path(__file__).parents[3] / "Tests" / "Clients" / "certificates"


@pytest.fixture(scope="module", params=["http", "https", "unix"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The arguments of clients, for each way to a server."""
    directory = tmp_path_factory.mktemp("place")
    arguments: list[str] = []
    if request.param == "https":
        if not CERTIFICATES.exists() or shutil.which("openssl") is None:
            pytest.skip("no openssl, or not in the repository")
        subprocess.run([CERTIFICATES, directory, "good"], check=True, capture_output=True)
        arguments = ["--tls-cert", f"{directory}/good.pem", "--tls-key", f"{directory}/good.key"]
    elif request.param == "unix":
        arguments = ["--addr", f"unix:{directory}/socket"]
    with Server(arguments=arguments) as server:
        url = f"unix://{directory}/socket" if request.param == "unix" else server.url
        yield {"url": url, "ca": f"{directory}/authority.pem" if request.param == "https" else None}


async def cancel_after(steps: int, work: Coroutine[Any, Any, Any]) -> bool:
    """Cancels work after some steps of the loop. Returns whether the cancellation came in time."""
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        await asyncio.sleep(0)
        if task.done():
            break
    else:
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def poll(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(3000):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition did not come true")


def steps_until_done() -> Iterator[int]:
    """0, 1, 2, …, then in growing leaps: a busy loop makes many steps while the server answers."""
    steps = 0
    while steps < 100_000:
        yield steps
        steps += 1 + steps // 12


@pytest.mark.parametrize("kept", [False, True])
def test_a_wait_that_is_cancelled_gives_its_tasks_back(place: dict[str, Any], kept: bool) -> None:
    async def main() -> None:
        async with emq.AsyncClient(**place) as observer:
            await observer.enqueue_many("wait", [{"content": index, "max_retries": 0} for index in range(3)])
            for steps in steps_until_done():
                async with emq.AsyncClient(**place) as client:
                    if kept:
                        await client.healthz()
                    taken: list[emq.Task] = []
                    cancelled = await cancel_after(steps, take(client, taken))
                    # What the wait has returned is the caller's.
                    if cancelled and taken:
                        await observer.nak(taken, release=True)
                    assert await client.healthz()
                await poll(lambda: has_ready(observer, "wait", 3))
                if not cancelled:
                    break
            else:
                raise AssertionError("the wait never came to its end")
            assert (await observer.stats("wait"))["totals"]["timed_out"] == 0
            await observer.purge("wait")

    async def take(client: emq.AsyncClient, taken: list[emq.Task]) -> None:
        taken += await client.wait("wait", 30, max=3)
        assert len(taken) == 3
        await client.nak(taken, release=True)

    asyncio.run(main())


async def has_ready(client: emq.AsyncClient, queue: str, count: int) -> bool:
    stats = await client.stats(queue)
    return stats["ready"] == count and stats["dispatched"] == 0


def test_calls_that_are_cancelled_leave_the_client_in_order(place: dict[str, Any]) -> None:
    async def main() -> None:
        async with emq.AsyncClient(**place, connections=2) as client:
            for steps in steps_until_done():
                await client.enqueue("calls", steps)
                [task] = await client.wait("calls", 10)

                async def work(task: emq.Task = task) -> None:
                    await asyncio.gather(*(client.touch(task) for _ in range(5)))
                    await client.ack(task)

                cancelled = await cancel_after(steps, work())
                # No answer of a call before is taken for one of this.
                assert (await client.task((await client.enqueue("other", steps)).id))["content"] == steps
                await client.ack(task)
                if not cancelled:
                    break
            stats = await client.stats("calls")
            assert stats["totals"]["acked"] == stats["totals"]["enqueued"] and stats["dispatched"] == 0

    asyncio.run(main())


def test_work_that_is_cancelled_gives_its_task_back_or_acknowledges_it(place: dict[str, Any]) -> None:
    async def main() -> None:
        async with emq.AsyncClient(**place) as client:
            await client.enqueue("work", max_retries=0)
            for steps in steps_until_done():
                began = ended = 0

                async def work() -> None:
                    nonlocal began, ended
                    async for task in client.tasks("work"):
                        async with task:
                            began += 1
                            await asyncio.sleep(0)
                            await asyncio.sleep(0)
                            ended += 1
                        break

                cancelled = await cancel_after(steps, work())
                if ended:
                    await poll(lambda: has_done(client, "work"))
                    await client.enqueue("work", max_retries=0)
                await poll(lambda: has_ready(client, "work", 1))
                if not cancelled:
                    break
            stats = await client.stats("work")
            assert stats["totals"]["timed_out"] == stats["totals"]["nacked"] == 0
            await client.purge("work")

    asyncio.run(main())


async def has_done(client: emq.AsyncClient, queue: str) -> bool:
    stats = await client.stats(queue)
    return stats["ready"] == stats["dispatched"] == 0


def test_a_stream_that_is_cancelled_ends(place: dict[str, Any]) -> None:
    async def main() -> None:
        async with emq.AsyncClient(**place, connections=2) as client:
            for steps in (0, 1, 2, 5, 10, 30, 100, 300):

                async def watch() -> None:
                    async for _ in client.events("/peek/stream"):
                        await asyncio.sleep(60)

                assert await cancel_after(steps, watch())
                assert await client.healthz()

    asyncio.run(main())


def test_a_lost_lease_cancels_the_body(place: dict[str, Any]) -> None:
    async def main() -> None:
        async with emq.AsyncClient(**place) as client:
            added = await client.enqueue_many("lost", [{"lease": 0.3}] * 2)
            order: list[str] = []

            async def work(task: emq.Task, clean_up: bool) -> None:
                async with task:
                    await client.cancel(task.id)
                    try:
                        await asyncio.sleep(60)
                    except asyncio.CancelledError:
                        order.append("cancelled")
                        if not clean_up:
                            # Whoever swallows it has the same end.
                            return
                        raise
                order.append("after")
                # The cancellation was for the body alone.
                await asyncio.sleep(0.01)
                order.append("end")

            tasks = await client.wait("lost", 10, max=2)
            await work(tasks[0], True)
            assert order == ["cancelled", "after", "end"] and tasks[0].lost
            await asyncio.ensure_future(work(tasks[1], False))
            assert tasks[1].lost and len(added) == 2

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before 3.11, tasks do not count cancellations")
def test_a_cancellation_from_outside_wins_over_a_lost_lease(place: dict[str, Any]) -> None:
    async def main() -> None:
        async with emq.AsyncClient(**place) as client:
            await client.enqueue("both", lease=0.3)
            [task] = await client.wait("both", 10)

            async def work() -> None:
                async with task:
                    await client.cancel(task.id)
                    try:
                        await asyncio.sleep(60)
                    except asyncio.CancelledError:
                        asyncio.current_task().cancel()  # type: ignore[union-attr]
                        raise
                raise AssertionError("the cancellation was lost")

            with pytest.raises(asyncio.CancelledError):
                await asyncio.ensure_future(work())

    asyncio.run(main())


def test_a_client_belongs_to_one_loop_at_a_time(place: dict[str, Any]) -> None:
    client = emq.AsyncClient(**place)

    async def use() -> None:
        assert await client.healthz()

    async def misuse() -> None:
        with pytest.raises(RuntimeError):
            await asyncio.to_thread(asyncio.run, use())

    async def both() -> None:
        await use()
        await misuse()

    asyncio.run(use())
    asyncio.run(both())
    asyncio.run(client.close())
