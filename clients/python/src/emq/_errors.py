"""The exceptions that the library raises: those of the server by their `type`, and those of the way to it.

`docs/errors.md` lists all types of the server with their causes and remedies.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

PREFIX = "urn:emq:error:"


class Error(Exception):
    """The base of all errors of this library. Its text names the request and the server, never the token."""


class ClientClosed(Error):
    """The client was closed before or during the call."""


class ConnectionFailed(Error):
    """The server could not be reached, or the connection broke, and all tries are used up.

    Whatever the request asked for, you can safely ask again.
    """


class Timeout(Error):
    """There was no answer within the call's timeout. Whatever the request asked for, you can safely ask again."""


class OutcomeUnknown(Error):
    """The request was sent, but no answer came. It may have taken effect, and to repeat it could do so twice.

    `__cause__` says what happened to the connection.
    """


class UnexpectedAnswer(Error):
    """The answer is not one of emq's, such as a proxy's page, a truncated answer, or one that is too large."""

    def __init__(self, message: str, *, status: int = 0, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        """The status of the answer; 0 if it has none."""
        self.body = body
        """The beginning of the answer's body."""


class ServerError(Error):
    """The server refused the request, which has changed nothing."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str = "",
        title: str = "",
        detail: str = "",
        field: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        """The status of HTTP, such as 404."""
        self.type = type
        """What is wrong, for programs: the last word of `urn:emq:error:…`, such as `no-such-task`."""
        self.title = title
        """A name for the type, for people."""
        self.detail = detail
        """What is wrong in this case and what would be right, for people."""
        self.field = field
        """The field or query parameter that is at fault."""
        self.retry_after = retry_after
        """After how many seconds the request may succeed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.__class__, self.args, self.__dict__.copy())


def _restored(kind: type[ServerError], args: tuple[Any, ...], values: dict[str, Any]) -> ServerError:
    """Rebuilds an error that was pickled, as process pools do it."""
    error = kind(*args, status=values["status"])
    error.__dict__.update(values)
    return error


# One class for each status.


class BadRequest(ServerError):
    """400, 413, 414, 415, 417, 431: the request is wrong, or too large."""


class Unauthorized(ServerError):
    """401: the server has tokens, and the request has none that is valid."""


class Forbidden(ServerError):
    """403: the token or the server does not allow the request."""


class NotFound(ServerError):
    """404: there is no such thing, or the token may not see it."""


class Conflict(ServerError):
    """409: what another client did stands against the request."""


class Unavailable(ServerError):
    """429, 503: the server refuses the request for now. The client has tried it several times."""


# Classes for the types that programs tell apart.


class NoSuchTask(NotFound):
    """There is no such task, it has ended and is not kept, or the token may not see it."""


class NoSuchKey(NotFound):
    """The key is free: no task has it."""


class NoSuchSource(NotFound):
    """There is no such source, or the token may not see it."""


class PageGone(NotFound):
    """The task in `after` is no longer in this state and queue. Start again without `after`."""


class KeyTaken(Conflict):
    """Another task has the key, and `on_conflict` is `"reject"`."""


class TaskUnfinished(Conflict):
    """The key to free belongs to an unfinished task. Cancel the task, which frees its key."""


class QueueFull(Unavailable):
    """The queue has as many tasks as its `max_length` allows."""


class Stopping(Unavailable):
    """The server is stopping."""


class Recovering(Unavailable):
    """The server has started and still reads its journal."""


class StorageFull(Unavailable):
    """The server's memory, disk or number of tasks is used up."""


class InvalidRequest(BadRequest):
    """The server does not understand a field, a parameter or the body. `field` names it, and `detail` explains."""


class TooLarge(BadRequest):
    """The request, or what it changes, is too large. Send less at once."""


STATUSES: Mapping[int, type[ServerError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: BadRequest,
    414: BadRequest,
    415: BadRequest,
    417: BadRequest,
    429: Unavailable,
    431: BadRequest,
    503: Unavailable,
}
"""The class for each status, for types that a newer server may have."""

TYPES: Mapping[str, type[ServerError]] = {
    "malformed-http": BadRequest,
    "missing-body": InvalidRequest,
    "unexpected-body": InvalidRequest,
    "malformed-json": InvalidRequest,
    "json-too-deep": InvalidRequest,
    "invalid-body": InvalidRequest,
    "too-many-items": InvalidRequest,
    "batch-too-long": InvalidRequest,
    "unknown-field": InvalidRequest,
    "duplicate-field": InvalidRequest,
    "missing-field": InvalidRequest,
    "invalid-field": InvalidRequest,
    "conflicting-fields": InvalidRequest,
    "masked-secret": InvalidRequest,
    "unknown-parameter": InvalidRequest,
    "duplicate-parameter": InvalidRequest,
    "missing-parameter": InvalidRequest,
    "invalid-parameter": InvalidRequest,
    "invalid-name": InvalidRequest,
    "invalid-id": InvalidRequest,
    "authentication-required": Unauthorized,
    "malformed-authorization": Unauthorized,
    "damaged-token": Unauthorized,
    "unknown-token": Unauthorized,
    "expired-token": Unauthorized,
    "permission-missing": Forbidden,
    "queue-not-allowed": Forbidden,
    "host-not-allowed": Forbidden,
    "cross-site-request": Forbidden,
    "push-disabled": Forbidden,
    "destination-not-allowed": Forbidden,
    "queue-reserved": Forbidden,
    "no-such-path": NotFound,
    "no-such-task": NoSuchTask,
    "no-such-key": NoSuchKey,
    "no-such-source": NoSuchSource,
    "page-gone": PageGone,
    "method-not-allowed": ServerError,
    "request-timeout": ServerError,
    "key-taken": KeyTaken,
    "task-unfinished": TaskUnfinished,
    "source-from-file": Conflict,
    "body-too-large": TooLarge,
    "change-too-large": TooLarge,
    "request-line-too-long": TooLarge,
    "unsupported-media-type": BadRequest,
    "unsupported-content-encoding": BadRequest,
    "unsupported-expectation": BadRequest,
    "queue-full": QueueFull,
    "header-too-large": TooLarge,
    "unsupported-transfer-coding": ServerError,
    "not-a-proxy": ServerError,
    "recovering": Recovering,
    "stopping": Stopping,
    "memory-full": StorageFull,
    "address-space-full": StorageFull,
    "buffers-full": StorageFull,
    "answer-too-large": Unavailable,
    "disk-full": StorageFull,
    "too-many-tasks": StorageFull,
    "too-many-queues": StorageFull,
    "too-many-sources": Unavailable,
    "too-many-sweeps": Unavailable,
    "too-many-scrapes": Unavailable,
    "too-many-streams": Unavailable,
    "library-missing": Unavailable,
    "client-ended": Unavailable,
    "unsupported-http-version": ServerError,
}
"""The class for each type of `docs/errors.md`."""

LASTING = frozenset({"address-space-full", "too-many-sources", "library-missing"})
"""Types with status 503 that stay until somebody does something, so that no try helps."""


def error_from(status: int, body: bytes, retry_after: float | None, request: str) -> ServerError | None:
    """The error in an answer; None if the answer is not one of emq's.

    `request` names the request and the server, as in `POST /ack/ at http://localhost:8080`.
    """
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(problem, dict):
        return None
    fields = cast(dict[str, object], problem)
    urn = fields.get("type")
    if not isinstance(urn, str) or not urn.startswith(PREFIX):
        return None
    type_, title, detail, field = urn[len(PREFIX) :], fields.get("title"), fields.get("detail"), fields.get("field")
    kind = TYPES.get(type_) or STATUSES.get(status, ServerError)
    text = f"{request}: {detail or title or type_} ({type_})"
    return kind(
        text,
        status=status,
        type=type_,
        title=str(title or ""),
        detail=str(detail or ""),
        field=field if isinstance(field, str) else None,
        retry_after=retry_after,
    )
