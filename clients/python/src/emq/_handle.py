"""What enqueuing a call of a function returns: a handle that waits for the result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from ._errors import Error, NoSuchTask

if TYPE_CHECKING:
    from ._app import App
    from ._types import Result

T = TypeVar("T")

# The longest single wait for a result; a proxy may end longer ones.
_WAIT_SECONDS = 60.0


class TaskFailed(Error):
    """The task whose result you want has died, has expired or was cancelled."""

    def __init__(self, message: str, *, state: str, error: str | None = None) -> None:
        super().__init__(message)
        self.state = state
        """The state of the task: `dead`, `expired` or `cancelled`."""
        self.error = error
        """The error of its last attempt, often a traceback, if the server still has it."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (self.args[0], self.state, self.error)


def _restored(message: str, state: str, error: str | None) -> TaskFailed:
    return TaskFailed(message, state=state, error=error)


class Handle(Generic[T]):
    """A task that was enqueued: its `id`, and its result once it is done."""

    __slots__ = ("_app", "existing", "id", "name")

    def __init__(self, app: App, name: str, id: str, existing: bool = False) -> None:
        self._app = app
        self.id = id
        """The id of the task."""
        self.name = name
        """The name of the function."""
        self.existing = existing
        """Whether an earlier task had the key, so that this is its id."""

    def __repr__(self) -> str:
        return f"<{self.name} {self.id}>"

    def result(self, timeout: float | None = None) -> T:
        """Waits until the task has ended, for at most `timeout` seconds, or as long as it takes, and returns what the
        function has returned.

        Raises TimeoutError if the task has not ended by then, and TaskFailed if it is dead, cancelled or expired. A
        task that has ended before this call must have been enqueued with `keep`: otherwise nothing is left of it, and
        NoSuchTask is raised.
        """
        deadline = _deadline(timeout)
        while True:
            wait = _wait(deadline)
            try:
                answer = self._app.client.result(self.id, timeout=wait)
            except NoSuchTask as error:
                raise self._gone(error) from None
            if _has_ended(answer):
                break
            self._check(deadline, timeout)
        reason: str | None = None
        if answer["state"] == "dead":
            try:
                reason = self._app.client.task(self.id).get("error")
            except Error:
                pass
        return self._value(answer, reason)

    async def result_async(self, timeout: float | None = None) -> T:
        """The same as `result`, for asyncio."""
        deadline = _deadline(timeout)
        while True:
            wait = _wait(deadline)
            try:
                answer = await self._app.async_client.result(self.id, timeout=wait)
            except NoSuchTask as error:
                raise self._gone(error) from None
            if _has_ended(answer):
                break
            self._check(deadline, timeout)
        reason: str | None = None
        if answer["state"] == "dead":
            try:
                reason = (await self._app.async_client.task(self.id)).get("error")
            except Error:
                pass
        return self._value(answer, reason)

    def _value(self, answer: Result, error: str | None) -> T:
        state = answer["state"]
        if state == "done":
            return cast("T", answer.get("result"))
        reason = f": {error.strip().splitlines()[-1]}" if error and error.strip() else ""
        raise TaskFailed(f"the task {self.id} of {self.name} is {state}{reason}", state=state, error=error)

    def _check(self, deadline: float | None, timeout: float | None) -> None:
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"the task {self.id} of {self.name} has not ended within {timeout:g} s")

    def _gone(self, error: NoSuchTask) -> NoSuchTask:
        text = f"{error}; to ask for results later than tasks end, enqueue with keep=… (in seconds)"
        return NoSuchTask(
            text, status=error.status, type=error.type, title=error.title, detail=error.detail, field=error.field
        )


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _wait(deadline: float | None) -> float:
    return _WAIT_SECONDS if deadline is None else max(0.0, min(_WAIT_SECONDS, deadline - time.monotonic()))


def _has_ended(answer: Result) -> bool:
    return answer["state"] in ("done", "dead", "cancelled", "expired")
