"""What type checkers must accept, and what they must say of it. Not run."""

from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import assert_type

import emq

app = emq.App("http://localhost:8080", token="secret")


@app.task(queue="mail", max_retries=5, backoff={"min": 1.0, "max": 60.0}, keep=timedelta(hours=1), expiry=None)
def send(to: int, subject: str = "hello", *, copies: int = 1) -> str:
    return subject * copies + str(to)


@app.task()
async def add(a: int, b: int) -> int:
    return a + b


def use() -> None:
    assert_type(send(1), str)
    assert_type(send.enqueue(1, "hi", copies=2), emq.Handle[str])
    assert_type(send.enqueue(to=1).result(timeout=5), str)
    assert_type(send.options(delay=30, key="a", max_retries=None).enqueue(to=1).id, str)
    assert_type(send.enqueue_many(send.bind(to=n) for n in range(3)), list[emq.Handle[str]])
    assert_type(send.options(eta=datetime.now(), on_conflict="reject", key="b").enqueue(1), emq.Handle[str])
    coroutine = assert_type(add(1, 2), Coroutine[Any, Any, int])
    coroutine.close()
    assert_type(add.enqueue(1, b=2).result(), int)
    app.work(jobs=2, exit_when_empty=True)


async def use_async() -> None:
    assert_type(await add(1, 2), int)
    assert_type(await send.enqueue_async(to=1), emq.Handle[str])
    assert_type(await (await add.enqueue_async(1, 2)).result_async(), int)
    assert_type(await add.enqueue_many_async([add.bind(1, 2)]), list[emq.Handle[int]])
    assert_type(emq.current_task(), emq.Task)
