"""A task to add, with all its options."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from ._call import DEFAULT, Default
from ._json import Duration, Time, seconds, unix_time
from ._types import Backoff, OnConflict, Request


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
