"""App: functions as tasks, what enqueuing them sends, and what their handles return."""

from __future__ import annotations

import asyncio
import datetime
import enum
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import emq


class Colour(str, enum.Enum):
    RED = "red"


@pytest.fixture
def app(emq_server: Any) -> emq.App:
    return emq.App(emq_server.url)


def sending(app: emq.App, **options: Any) -> Any:
    @app.task(name="send", queue="mail", **options)
    def send(to: int, subject: str = "hello", *, copies: int = 1) -> str:
        """Sends mail."""
        return f"{subject} to {to}" * copies

    return send


def test_a_call_runs_the_function_here(app: emq.App, emq_client: emq.Client) -> None:
    send = sending(app)
    assert send(1) == "hello to 1"
    assert emq_client.wait("mail") == []
    assert send.__name__ == "send" and send.__doc__ == "Sends mail."


def test_content_is_plain_json(app: emq.App, emq_client: emq.Client) -> None:
    send = sending(app)
    handle = send.enqueue(1, subject="hi")
    (task,) = emq_client.wait("mail")
    assert task.id == handle.id
    assert task.content == {"task": "send", "args": [1], "kwargs": {"subject": "hi"}}


def test_options_of_the_function_and_of_one_call(app: emq.App, emq_client: emq.Client) -> None:
    send = sending(app, max_retries=5, priority=3, keep=60, metadata={"team": "shop"}, lease=30)
    record = emq_client.task(send.enqueue(1).id)
    expected = {"max_retries": 5, "priority": 3, "keep": 60, "metadata": {"team": "shop"}, "retry": 30}
    assert {name: record.get(name) for name in expected} == expected

    changed = send.options(delay=30, key="one", max_retries=None, queue="later")
    handle = changed.enqueue(1)
    record = emq_client.task(handle.id)
    assert (record["queue"], record["state"], record["key"]) == ("later", "delayed", "one")
    assert record["max_retries"] is None and record["priority"] == 3
    again = changed.enqueue(1)
    assert again.existing and again.id == handle.id and not handle.existing
    assert emq_client.task(send.enqueue(1).id)["queue"] == "mail"


def test_many_at_once(app: emq.App, emq_client: emq.Client) -> None:
    send = sending(app)
    handles = send.enqueue_many([send.bind(to=1), send.options(priority=5).bind(to=2), send.bind(3)])
    tasks = emq_client.wait("mail", max=10)
    assert [task.id for task in tasks] == [handles[1].id, handles[0].id, handles[2].id]
    assert send.enqueue_many([]) == []
    with pytest.raises(ValueError, match="the queue other"):
        send.enqueue_many([send.bind(1), send.options(queue="other").bind(1)])

    @app.task(queue="mail")
    def other() -> None: ...

    with pytest.raises(ValueError, match="a call of send"):
        other.enqueue_many([send.bind(1)])
    assert emq_client.wait("mail") == []


def test_asyncio(app: emq.App, emq_client: emq.Client) -> None:
    @app.task(name="add", queue="sums", keep=60)
    async def add(a: int, b: int) -> int:
        return a + b

    async def main() -> None:
        assert await add(1, 2) == 3
        handle = await add.enqueue_async(1, b=2)
        (task,) = emq_client.wait("sums")
        assert task.content == {"task": "add", "args": [1], "kwargs": {"b": 2}}
        emq_client.ack(task, 3)
        assert await handle.result_async(10) == 3
        many = await add.enqueue_many_async(add.bind(n, n) for n in range(3))
        assert len({handle.id for handle in many}) == 3
        await app.async_client.close()

    # Each loop has connections of its own.
    for _ in range(2):
        asyncio.run(main())
        emq_client.purge("sums")


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "send: missing a required argument: 'to'"),
        ((1,), {"too": 2}, "send: got an unexpected keyword argument 'too'"),
        ((1,), {"subject": b"x"}, "argument 'subject' of send is a bytes"),
        (({1: 2},), {}, "argument 1 of send has the key 1; in JSON, keys are strings"),
        (([{"a": (1, 2)}],), {}, r"argument 1 of send\[0\]\['a'\] is a tuple"),
        ((datetime.date(2026, 1, 1),), {}, "is a date, which cannot be JSON"),
        ((object(),), {}, "is an object, which"),
        ((float("nan"),), {}, "argument 1 of send is nan, which JSON does not have"),
    ],
)
def test_wrong_arguments_are_refused_before_sending(
    app: emq.App, emq_client: emq.Client, args: Any, kwargs: Any, message: str
) -> None:
    send = sending(app)
    for enqueue in (send.enqueue, send.bind):
        with pytest.raises((TypeError, ValueError), match=message):
            enqueue(*args, **kwargs)
    assert emq_client.wait("mail") == []


def test_arguments_that_contain_themselves(app: emq.App) -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="contains itself"):
        sending(app).enqueue(circle)


def test_arguments_that_json_keeps(app: emq.App, emq_client: emq.Client) -> None:
    values = [None, True, 2**70, 0.1, "Grüße 🎉", [], {"a": [1, {"b": None}]}, Colour.RED]
    send = sending(app)
    send.enqueue(values)
    assert emq_client.wait("mail")[0].content["args"] == [values]


def test_results(app: emq.App, emq_client: emq.Client) -> None:
    send = sending(app, keep=60)
    handle = send.enqueue(1)
    with pytest.raises(TimeoutError, match="has not ended within 0 s"):
        handle.result(timeout=0)
    (task,) = emq_client.wait("mail")
    emq_client.ack(task, {"sent": True})
    assert handle.result(timeout=10) == {"sent": True}
    assert handle.result() == {"sent": True}


def test_failures_have_the_error(app: emq.App, emq_client: emq.Client) -> None:
    handle = sending(app).enqueue(1)
    (task,) = emq_client.wait("mail")
    emq_client.nak(task, "Traceback …\nValueError: no such person", dead=True)
    with pytest.raises(emq.TaskFailed, match=f"{handle.id} of send is dead: ValueError: no such person") as caught:
        handle.result(timeout=10)
    assert caught.value.state == "dead"
    assert caught.value.error is not None and caught.value.error.startswith("Traceback")

    handle = sending(emq.App(emq_client.url), keep=60).enqueue(1)
    emq_client.cancel(handle.id)
    with pytest.raises(emq.TaskFailed, match="is cancelled"):
        handle.result(timeout=10)


def test_a_result_that_is_not_kept_is_explained(app: emq.App, emq_client: emq.Client) -> None:
    handle = sending(app).enqueue(1)
    emq_client.ack(emq_client.wait("mail"))
    with pytest.raises(emq.NoSuchTask, match="keep="):
        handle.result(timeout=10)


def test_two_functions_of_one_name_are_refused(app: emq.App) -> None:
    sending(app)
    with pytest.raises(ValueError, match=r"two tasks 'send': .*test_app.py:\d+ and .*test_app.py:\d+"):
        sending(app)


def test_names_are_those_of_functions(app: emq.App) -> None:
    @app.task()
    def inner() -> None: ...

    assert inner.name == f"{__name__}.test_names_are_those_of_functions.<locals>.inner"
    assert app.queues == ["default"] and list(app.functions) == [inner.name]


def test_what_is_no_function_is_refused(app: emq.App) -> None:
    with pytest.raises(TypeError, match="with parentheses"):
        app.task(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is not a function"):
        app.task()(len)
    with pytest.raises(TypeError, match="generator"):

        @app.task()
        def numbers() -> Any:
            yield 1

    with pytest.raises(TypeError, match="there is no option 'retries'"):
        app.task(retries=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="key belongs to one call"):
        app.task(key="a")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="name of a queue"):
        sending(app).options(queue=3)
    with pytest.raises(RuntimeError, match="no worker"):
        emq.current_task()


def test_the_environment_names_the_server(emq_server: Any, emq_client: emq.Client) -> None:
    send = sending(emq.App())
    send.enqueue(1)
    assert len(emq_client.wait("mail")) == 1


def test_a_client_of_ones_own(emq_client: emq.Client) -> None:
    app = emq.App(emq_client)
    sending(app).enqueue(1)
    assert app.client is emq_client and len(emq_client.wait("mail")) == 1

    async def main() -> None:
        await sending(emq.App(emq_client)).enqueue_async(1)

    asyncio.run(main())
    assert len(emq_client.wait("mail")) == 1
    with pytest.raises(TypeError, match="its own token"):
        emq.App(emq_client, token="secret")


def test_a_program_that_is_run_has_the_name_of_its_module(
    emq_server: Any, emq_client: emq.Client, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(
        textwrap.dedent(
            """
            import emq
            app = emq.App()

            @app.task(queue="mail")
            def send(): ...

            if __name__ == "__main__":
                send.enqueue()
            """
        )
    )
    for command in (["shop.py"], ["-m", "shop"]):
        subprocess.run([sys.executable, *command], cwd=tmp_path, check=True)
        assert emq_client.wait("mail")[0].content["task"] == "shop.send"
