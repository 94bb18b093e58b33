"""A task to add, with all its options."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import timedelta

from ._call import DEFAULT, NEVER, Default
from ._json import Duration, Time, seconds, unix_time
from ._types import Backoff, OnConflict, Request

UNIQUE_SECONDS = 120.0
"""How long the keys of the library's own stay taken: longer than all tries of a call."""


class NewTask:
    """A task for `enqueue_many`. The arguments are those of `enqueue`."""

    __slots__ = ("_fields",)

    def __init__(
        self,
        content: object = None,
        *,
        lease: Duration | None = None,
        expiry: Duration | None | Default = DEFAULT,
        delay: Duration | None = None,
        eta: Time | None = None,
        priority: int | None = None,
        max_retries: int | None | Default = DEFAULT,
        max_crashes: int | None | Default = DEFAULT,
        backoff: Duration | Backoff | None = None,
        key: str | None = None,
        on_conflict: OnConflict | None = None,
        unique_for: Duration | None = None,
        keep: Duration | None = None,
        metadata: Mapping[str, str] | None = None,
        request: Request | None = None,
    ) -> None:
        fields: dict[str, object] = {"content": content}
        if lease is not None:
            fields["retry"] = seconds(lease, "lease")
        if expiry is not DEFAULT:
            fields["expiry"] = None if expiry is None else seconds(expiry, "expiry")
        if delay is not None:
            fields["delay"] = seconds(delay, "delay")
        if eta is not None:
            fields["eta"] = unix_time(eta, "eta")
        if priority is not None:
            fields["priority"] = priority
        if max_retries is not DEFAULT:
            fields["max_retries"] = max_retries
        if max_crashes is not DEFAULT:
            fields["max_crashes"] = max_crashes
        if backoff is not None:
            fields["backoff"] = backoff.total_seconds() if isinstance(backoff, timedelta) else backoff
        if key is not None:
            fields["key"] = key
        if on_conflict is not None:
            fields["on_conflict"] = on_conflict
        if unique_for is not None:
            fields["unique_for"] = seconds(unique_for, "unique_for")
        if keep is not None:
            fields["keep"] = seconds(keep, "keep")
        if metadata is not None:
            fields["metadata"] = dict(metadata)
        if request is not None:
            fields["request"] = request
        self._fields = fields

    def fields(self) -> dict[str, object]:
        """The task's fields by their names in the interface, for the caller to change."""
        return dict(self._fields)

    def __repr__(self) -> str:
        return f"emq.NewTask({self._fields!r})"


def random_key() -> str:
    """A key that no other task has."""
    return "emq-" + urlsafe_b64encode(os.urandom(15)).decode()


def make_repeatable(fields: dict[str, object], key: str) -> tuple[bool, float]:
    """Gives a task without a key this one. Returns whether it did, and for how many seconds a repetition is safe."""
    if "key" not in fields:
        if "unique_for" in fields or "on_conflict" in fields:
            # The server says what is wrong.
            return False, NEVER
        fields["key"], fields["unique_for"] = key, UNIQUE_SECONDS
        return True, UNIQUE_SECONDS
    # "replace" would start a task again that a worker has already, and "reject" refuse what the first try has done.
    unique_for = fields.get("unique_for", NEVER)
    if fields.get("on_conflict", "keep") != "keep" or not isinstance(unique_for, (int, float)):
        return False, NEVER
    return False, float(unique_for)
