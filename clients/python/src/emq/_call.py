"""One request of the interface, without the connection that carries it, and what becomes of it after a failure."""

from __future__ import annotations

import enum
import math
import random
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ._errors import LASTING, Error, OutcomeUnknown, ServerError, Unavailable, UnexpectedAnswer, error_from
from ._http import Response
from ._json import decode as decode_json

T = TypeVar("T")

ALWAYS = math.inf
NEVER = 0.0

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
LONGEST_RETRY_AFTER = 60.0

_PASSING_STATUSES = frozenset({429, 502, 503, 504})
"""What the server and the proxies before it answer when the same request may succeed later."""


class Default(enum.Enum):
    """The type of `DEFAULT`."""

    DEFAULT = "DEFAULT"

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = Default.DEFAULT
"""What the queue's configuration or the server says, where `None` means something else."""


class Failure(Exception):
    """A try of a call that did not succeed.

    `arrived` says whether the server may have got the request without a final answer, and `final` that no other try
    can do better.
    """

    def __init__(self, error: Error, arrived: bool, final: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.arrived = arrived
        self.final = final


class Answer:
    """A successful response, and what is to know about the call that got it."""

    __slots__ = ("body", "fields", "holder", "repeated", "status")

    def __init__(self, status: int, fields: dict[str, str], body: bytes, repeated: bool, holder: object) -> None:
        self.status = status
        self.fields = fields
        self.body = body
        self.repeated = repeated
        """Whether an earlier try of the same call may have taken effect."""
        self.holder = holder
        """What keeps the leases of the client's tasks."""

    def json(self) -> Any:
        """The value of the body. Raises `ValueError`."""
        return decode_json(self.body)


class Call(Generic[T]):
    """A request: what to send, how to understand the answer, and whether it may be sent again."""

    __slots__ = (
        "body", "decode", "done_error", "fields", "method", "other_status", "path", "repeatable_for", "rest",
        "takes_tasks", "waits",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        path: str,
        decode: Callable[[Answer], T],
        *,
        body: bytes | None = None,
        fields: bytes = b"",
        repeatable_for: float = ALWAYS,
        waits: float = 0.0,
        takes_tasks: bool = False,
        done_error: str = "",
        other_status: int = 200,
        rest: Callable[[float], Call[T]] | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.decode = decode
        self.body = body
        self.fields = fields
        """Further header fields, each with its line end."""
        self.repeatable_for = repeatable_for
        """For how many seconds after the first try a repetition cannot do the thing twice."""
        self.waits = waits
        """For how many seconds the server may wait before it answers."""
        self.takes_tasks = takes_tasks
        """Whether the answer has tasks that somebody must hold."""
        self.done_error = done_error
        """The type of error that says, after a repetition, that the first try has done it."""
        self.other_status = other_status
        """A status that is not an error if the answer is not a problem."""
        self.rest = rest
        """For calls that wait: the same call that waits for so many seconds, after a part of its wait is over."""

    def render(self, base_path: str, head: bytes) -> bytes:
        """The bytes of the request. `head` is what all requests to the server have behind their paths."""
        start = f"{self.method} {base_path}{self.path}".encode("ascii")
        if self.body is None:
            return b"%b%b%b\r\n" % (start, head, self.fields)
        return b"%b%b%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            start,
            head,
            self.fields,
            len(self.body),
            self.body,
        )

    def finish(self, response: Response, repeated: bool, holder: object, server: str) -> T:
        """The value of the call, or its error; `Failure` if another try may do better."""
        if response.status not in _PASSING_STATUSES:
            return self.value(response, repeated, holder, server)
        try:
            return self.value(response, repeated, holder, server)
        except UnexpectedAnswer as error:
            # A proxy does not say whether the server got the request.
            raise Failure(error, True) from error
        except Error as error:
            raise Failure(error, False) from error

    def value(self, response: Response, repeated: bool, holder: object, server: str) -> T:
        """The value of the call, or its error."""
        status = response.status
        if status in (200, 204, 201):
            try:
                return self.decode(Answer(status, response.fields, response.body, repeated, holder))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                text = f"the answer is not what emq sends: {error!r}"
                raise self._unexpected(text, response, server) from error
        if status == self.other_status and response.fields.get("content-type") == "application/json":
            try:
                return self.decode(Answer(status, response.fields, response.body, repeated, holder))
            except ValueError:
                pass
        problem = error_from(status, response.body, response.retry_after, self.name(server))
        if problem is None:
            raise self._unexpected(f"an answer with status {status} that is not emq's", response, server)
        if repeated and problem.type and problem.type == self.done_error:
            return self.decode(Answer(204, response.fields, b"", True, holder))
        raise problem

    def name(self, server: str) -> str:
        """How messages call the request."""
        return f"{self.method} {self.path.partition('?')[0]} at {server}"

    def _unexpected(self, problem: str, response: Response, server: str) -> UnexpectedAnswer:
        return UnexpectedAnswer(
            f"{self.name(server)}: {problem}", status=response.status, body=response.body[:1000]
        )


class Tries:
    """Decides after a failed try whether and when to try again."""

    __slots__ = ("arrived", "_call", "_deadline", "_left", "_pause", "_started", "_timeout")

    def __init__(self, call: Call[Any], tries: int, started: float, timeout: float) -> None:
        self._call = call
        self._left = tries
        self._started = started
        self._timeout = timeout
        self._deadline = started + timeout + call.waits
        self._pause = FIRST_PAUSE
        self.arrived = False
        """Whether any try may have reached the server without an answer."""

    def pause_after(self, failure: Failure) -> float:
        """How many seconds to wait before the next try. Raises the error, or `OutcomeUnknown`, if there is none."""
        call, error = self._call, failure.error
        self.arrived = self.arrived or failure.arrived
        now = time.monotonic()
        self._left -= 1
        pause = random.uniform(0, self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        over = failure.final or self._left <= 0
        if isinstance(error, ServerError):
            over = over or not isinstance(error, Unavailable) or error.type in LASTING
            if error.retry_after is not None:
                pause += min(error.retry_after, LONGEST_RETRY_AFTER)
        # A repetition may arrive as late as this.
        last = min(now + pause + self._timeout, self._deadline)
        too_late = self.arrived and last > self._started + call.repeatable_for
        if over or too_late or now + pause >= self._deadline:
            if self.arrived and call.repeatable_for < ALWAYS:
                raise OutcomeUnknown(f"{error}; the request was sent before, and may have taken effect") from error
            # What the failure came from is the error itself.
            raise error from error.__cause__
        return pause


class Pauses:
    """Growing pauses, with jitter, for loops that go on for ever."""

    __slots__ = ("_longest",)

    def __init__(self) -> None:
        self._longest = FIRST_PAUSE

    def after(self, error: Error) -> float:
        """How many seconds to wait after an error."""
        pause = random.uniform(0, self._longest)
        self._longest = min(self._longest * 2, LONGEST_PAUSE)
        if isinstance(error, ServerError) and error.retry_after is not None:
            pause += min(error.retry_after, LONGEST_PAUSE)
        return pause
