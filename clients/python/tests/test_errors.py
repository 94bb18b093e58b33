"""Errors: their classes, their texts, and that docs/errors.md and the library know the same types."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from core import ScriptedServer, answer, problem

import emq
from emq import _errors

ERRORS = Path(__file__).parents[3] / "docs" / "errors.md"


def documented() -> list[tuple[int, str]]:
    rows = re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", ERRORS.read_text(encoding="utf-8"), re.MULTILINE)
    return [(int(status), type) for status, type in rows]


@pytest.mark.skipif(not ERRORS.exists(), reason="docs/errors.md is not there: the tests run outside of the repository")
def test_the_table_of_types_is_that_of_the_documentation() -> None:
    rows = documented()
    assert len(rows) > 60
    assert {type for _, type in rows} == set(_errors.TYPES)
    for status, type in rows:
        general = _errors.STATUSES.get(status, emq.ServerError)
        assert issubclass(_errors.TYPES[type], general), f"{type} has status {status}"


def test_errors_have_what_the_server_says(client: Any, queue: str) -> None:
    with pytest.raises(emq.InvalidRequest) as raised:
        client.enqueue(queue, priority=1000)
    error = raised.value
    assert (error.status, error.type, error.field) == (400, "invalid-field", "priority")
    assert error.title and error.detail and error.retry_after is None
    assert "POST /enqueue/" in str(error) and client.url in str(error) and error.detail in str(error)
    assert isinstance(error, emq.BadRequest) and isinstance(error, emq.ServerError) and isinstance(error, emq.Error)


def test_an_unknown_type_is_the_class_of_its_status(make: Any) -> None:
    script = [problem(404, "no-such-moon"), problem(409, "moon-taken"), problem(418, "teapot")]
    with ScriptedServer(*script) as server:
        client = make(server.url)
        for kind, status in ((emq.NotFound, 404), (emq.Conflict, 409), (emq.ServerError, 418)):
            with pytest.raises(emq.ServerError) as raised:
                client.stats("q")
            assert type(raised.value) is kind and raised.value.status == status


@pytest.mark.parametrize("status", [200, 404, 500, 301])
@pytest.mark.parametrize("body", ["<html>Hello</html>", "[]", '{"type": "about:blank"}', "\u2028", ""])
def test_an_answer_that_is_not_emqs_says_so(make: Any, status: int, body: str) -> None:
    with ScriptedServer(answer(status, body)) as server:
        with pytest.raises(emq.UnexpectedAnswer) as raised:
            make(server.url).wait("q", max=2) if body != "[]" else make(server.url).enqueue("q")
        assert raised.value.status == status and raised.value.body == body.encode()
        assert len(server.requests) == 1


def test_no_message_has_the_token(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "emq_secret_secret"
    with ScriptedServer(problem(401, "unknown-token"), answer(500, "oops"), ScriptedServer.RESET) as server:
        client = make(server.url.replace("//", f"//{token}@"), tries=1)
        texts = [repr(client.client), client.url]
        for _ in range(3):
            with pytest.raises(emq.Error) as raised:
                client.stats("q")
            texts += [str(raised.value), repr(raised.value), repr(raised.value.__cause__)]
        assert all(b"Authorization: Bearer " + token.encode() in request for request in server.requests)
    assert not [text for text in texts if "secret" in text]
    with pytest.raises(ValueError) as wrong:
        make(server.url, token=token + "\r\nX: y")
    assert "secret" not in str(wrong.value)


def test_errors_can_be_pickled_and_copied() -> None:
    error = _errors.error_from(
        429, b'{"type":"urn:emq:error:queue-full","detail":"full","field":"x"}', 1.5, "POST /enqueue/q at here"
    )
    assert isinstance(error, emq.QueueFull)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is emq.QueueFull and str(other) == str(error)
        assert (other.status, other.type, other.field, other.retry_after) == (429, "queue-full", "x", 1.5)
    other = pickle.loads(pickle.dumps(emq.UnexpectedAnswer("text", status=5, body=b"x")))
    assert (str(other), other.status, other.body) == ("text", 5, b"x")
    retry = pickle.loads(pickle.dumps(emq.Retry("why", after=3)))
    assert (str(retry), retry.after) == ("why", 3)
