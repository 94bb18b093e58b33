"""The requests that watch and change queues, configurations and sources: each is a function that returns a call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast
from urllib.parse import parse_qs

from . import _json
from ._call import ALWAYS, NEVER, Answer, Call
from ._calls import no_value, value_of
from ._json import Duration, path
from ._types import Configuration, Found, HistoryStep, Kicked, ListedTask, Moved, Page, Paused, Purged, QueueOrder
from ._types import State, WorkerOrder
from ._types_figures import QueueStatistics, SourceStatus, Statistics
from ._types_server import Access, Alerts, ErrorGroups, Health, Operations, Workers

_NEXT = re.compile(r'<([^<>]*)>\s*;\s*rel="?next"?')


def _page(answer: Answer) -> Page[Any]:
    """A list, and where the server says that it goes on."""
    page: Page[Any] = Page(answer.json())
    link = _NEXT.search(answer.fields.get("link", ""))
    if link is not None:
        after = parse_qs(link[1].partition("?")[2].replace("+", "%2B")).get("after")
        page.next = after[0] if after else None
    return page


def peek(
    queue: str,
    n: int = 1,
    *,
    state: State | None = None,
    after: str | None = None,
    content_limit: int | None = None,
    error: str | None = None,
    error_match: str | None = None,
    older_than: Duration | None = None,
    newer_than: Duration | None = None,
) -> Call[Page[ListedTask]]:
    """Shows up to `n` tasks of a queue, at most 1000, without taking them.

    - `state`: by default `"ready"`
    - `after`: the id of the last task on the page before. Raises `PageGone` if that is no longer in this state
    - `content_limit`: at most so many bytes of each content and metadata
    - `error`: only tasks with exactly this line of their error; `error_match`: with a line that this matches, where
      `*` stands for any characters
    - `older_than`, `newer_than`: only tasks that have been in their state for at least, or for less than, so long

    With these filters, a page may have fewer tasks than `n`; go on with `after=page.next` until that is None.
    """
    return Call(
        "GET",
        path(
            "/peek/", queue, n=n, state=state, after=after, content_limit=content_limit, error=error,
            error_match=error_match, older_than=older_than, newer_than=newer_than,
        ),
        _page,
    )  # fmt: skip


def queues(
    *,
    prefix: str | None = None,
    match: str | None = None,
    sort: QueueOrder | None = None,
    n: int | None = None,
    after: str | None = None,
) -> Call[Page[str]]:
    """Lists the queues that hold an unfinished or dead task, have a configuration, or are paused.

    - `prefix`: only names that begin with this; `match`: only names that this matches, where `*` stands for any
      characters
    - `sort`: by default `"name"`
    - `n`: at most so many, up to 1000; without it, all. Go on with `after=page.next` until that is None
    """
    return Call("GET", path("/queues/", prefix=prefix, match=match, sort=sort, n=n, after=after), _page)


def stats(queue: str, *, history: HistoryStep | None = None) -> Call[QueueStatistics]:
    """Counts tasks and events in a queue. `history` adds the last hour by minutes, or the last day by five minutes."""
    return Call("GET", path("/stats/", queue, history=history), value_of)


def all_stats(
    *,
    n: int | None = None,
    after: str | None = None,
    prefix: str | None = None,
    match: str | None = None,
    sort: QueueOrder | None = None,
    offset: int | None = None,
    delimiter: str | None = None,
    history: HistoryStep | None = None,
    trend: bool = False,
) -> Call[Statistics]:
    """Counts tasks and events in many queues, and shows the state of the server.

    - `n`: how many queues the page has, 1 to 1000; by default 100
    - `after`: the `next` of the page before; or `offset`: how many queues precede the page
    - `prefix`, `match`, `sort`: as for `queues`
    - `delimiter`: groups queues whose names begin alike; the answer has `rows` then
    - `history`: the history of all queues together
    - `trend`: how many tasks of each queue were ready in each of the last 30 minutes
    """
    return Call(
        "GET",
        path(
            "/stats/", n=n, after=after, prefix=prefix, match=match, sort=sort, offset=offset, delimiter=delimiter,
            history=history, trend=1 if trend else None,
        ),
        value_of,
    )  # fmt: skip


def alerts() -> Call[Alerts]:
    """Shows what is wrong with the server and its queues now, the worst first."""
    return Call("GET", "/alerts/", value_of)


def operations() -> Call[Operations]:
    """Lists the purges, kicks and moves under way."""
    return Call("GET", "/operations/", value_of)


def stop_operation(id: int) -> Call[None]:
    """Stops a purge, a kick or a move. What it has done stays done. Raises `NotFound` if it has ended."""
    return Call("DELETE", path("/operations/", str(id)), no_value, done_error="no-such-path")


def errors(
    queue: str | None = None, *, n: int | None = None, prefix: str | None = None, match: str | None = None
) -> Call[ErrorGroups]:
    """Groups the dead tasks of a queue, or of all queues, by a line of their errors.

    - `n`: at most so many groups, 1 to 1000; by default 100
    - `prefix`, `match`: only without a queue: which queues count, as for `queues`
    """
    if queue is not None:
        return Call("GET", path("/errors/", queue, n=n, prefix=prefix, match=match), value_of)
    return Call("GET", path("/errors/", n=n, prefix=prefix, match=match), value_of)


def workers(
    *, n: int | None = None, match: str | None = None, sort: WorkerOrder | None = None
) -> Call[Workers]:
    """Lists the workers that have given a name to `wait` in the last hour, or that hold tasks.

    - `n`: at most so many, 1 to 1000; by default 100
    - `match`: only names that this matches, where `*` stands for any characters
    - `sort`: by default `"oldest"`
    """
    return Call("GET", path("/workers/", n=n, match=match, sort=sort), value_of)


def search(text: str, *, n: int | None = None) -> Call[Found]:
    """Finds tasks by id, receipt or key, and queues by a part of their names; at most `n` of each, 1 to 100."""
    return Call("GET", path("/search/", q=text, n=n), value_of)


def pause(queue: str) -> Call[Paused]:
    """Stops dispatching the tasks of a queue. `new` in the answer says that emq knew nothing of the queue."""
    return Call("POST", path("/pause/", queue), value_of)


def resume(queue: str) -> Call[Paused]:
    """Dispatches the tasks of a paused queue again."""
    return Call("POST", path("/resume/", queue), value_of)


def purge(
    queue: str,
    *,
    state: State | Literal["all"] | None = None,
    error: str | None = None,
    error_match: str | None = None,
    older_than: Duration | None = None,
    newer_than: Duration | None = None,
) -> Call[Purged]:
    """Deletes the ready and delayed tasks of a queue, or those of one state, or all.

    The filters are those of `peek`. The answer comes when all are deleted, which with millions of tasks takes longer
    than the client's timeout; the server goes on anyway. If the connection breaks, the client does not try again, as
    that would delete tasks that were added meanwhile, and raises `OutcomeUnknown`.
    """
    query = path(
        "/purge/", queue, state=state, error=error, error_match=error_match, older_than=older_than,
        newer_than=newer_than,
    )  # fmt: skip
    return Call("POST", query, value_of, repeatable_for=NEVER)


def kick(
    queue: str,
    n: int | None = None,
    *,
    state: Literal["dead", "delayed"] | None = None,
    to: Literal["origin"] | None = None,
    error: str | None = None,
    error_match: str | None = None,
    older_than: Duration | None = None,
    newer_than: Duration | None = None,
) -> Call[Kicked]:
    """Makes dead tasks of a queue ready again, oldest first; all, or at most `n`.

    - `state`: `"delayed"` kicks delayed tasks instead, as if their delay were over
    - `to`: `"origin"` returns dead letters to the queues where they died

    The filters are those of `peek`. Like `purge`, it is not repeated after a broken connection.
    """
    query = path(
        "/kick/", queue, n=n, state=state, to=to, error=error, error_match=error_match, older_than=older_than,
        newer_than=newer_than,
    )  # fmt: skip
    return Call("POST", query, value_of, repeatable_for=NEVER)


def kick_tasks(ids: Iterable[str], *, to: Literal["origin"] | None = None) -> Call[Kicked]:
    """Makes up to 10,000 dead tasks ready again. `missing` in the answer has those that stay as they are.

    Like `purge`, it is not repeated after a broken connection: the tasks may have died again.
    """
    body = _json.encode({"ids": list(ids)})
    return Call("POST", path("/kick/", to=to), value_of, body=body, repeatable_for=NEVER)


def move(
    queue: str,
    to: str,
    n: int | None = None,
    *,
    state: Literal["ready", "delayed", "dead"] | None = None,
    error: str | None = None,
    error_match: str | None = None,
    older_than: Duration | None = None,
    newer_than: Duration | None = None,
) -> Call[Moved]:
    """Moves the ready tasks of a queue, or those of another state, to the back of the queue `to`; all, or at most `n`.

    The filters are those of `peek`. Like `purge`, it is not repeated after a broken connection.
    """
    query = path(
        "/move/", queue, to=to, n=n, state=state, error=error, error_match=error_match, older_than=older_than,
        newer_than=newer_than,
    )  # fmt: skip
    return Call("POST", query, value_of, repeatable_for=NEVER)


def move_tasks(ids: Iterable[str], to: str) -> Call[Moved]:
    """Moves up to 10,000 tasks to the back of the queue `to`. `missing` in the answer has those that stay.

    Like `purge`, it is not repeated after a broken connection: somebody may have moved them on.
    """
    body = _json.encode({"ids": list(ids)})
    return Call("POST", path("/move/", to=to), value_of, body=body, repeatable_for=NEVER)


def config(queue: str) -> Call[Configuration]:
    """Shows the configuration of a queue; it is empty if there is none."""
    return Call("GET", path("/config/", queue), value_of)


def put_config(queue: str, configuration: Configuration, *, dry_run: bool = False) -> Call[Configuration]:
    """Replaces the whole configuration of a queue, and returns it. `dry_run` only checks it.

    `removed` in the answer names what the `push` of before had and the new configuration lacks.
    """
    return _change("PUT", path("/config/", queue, dry_run=dry_run or None), configuration)


def patch_config(queue: str, changes: Configuration, *, dry_run: bool = False) -> Call[Configuration]:
    """Changes the fields of a queue's configuration that `changes` names, and returns it; None removes a field."""
    return _change("PATCH", path("/config/", queue, dry_run=dry_run or None), changes)


def delete_config(queue: str, *, dry_run: bool = False) -> Call[None]:
    """Removes the configuration of a queue."""
    return Call("DELETE", path("/config/", queue, dry_run=dry_run or None), no_value)


def defaults() -> Call[Configuration]:
    """Shows the defaults for all queues."""
    return Call("GET", "/defaults/", value_of)


def put_defaults(configuration: Configuration, *, dry_run: bool = False) -> Call[Configuration]:
    """Replaces the defaults for all queues, and returns them. `dry_run` only checks them."""
    return _change("PUT", path("/defaults/", dry_run=dry_run or None), configuration)


def patch_defaults(changes: Configuration, *, dry_run: bool = False) -> Call[Configuration]:
    """Changes the fields of the defaults that `changes` names, and returns them; None removes a field."""
    return _change("PATCH", path("/defaults/", dry_run=dry_run or None), changes)


def delete_defaults(*, dry_run: bool = False) -> Call[None]:
    """Removes the defaults for all queues."""
    return Call("DELETE", path("/defaults/", dry_run=dry_run or None), no_value)


def sources() -> Call[dict[str, SourceStatus]]:
    """Shows all sources by their names."""
    return Call("GET", "/source/", lambda answer: answer.json()["sources"])


def source(name: str) -> Call[SourceStatus]:
    """Shows a source, which takes messages from a queue of RabbitMQ. Raises `NoSuchSource`."""
    return Call("GET", path("/source/", name), value_of)


def put_source(
    name: str,
    amqp: str,
    queue: str,
    *,
    into: str | None = None,
    prefetch: int | None = None,
    unique_for: Duration | None = None,
) -> Call[SourceStatus]:
    """Defines a source or replaces its definition, and returns it.

    - `amqp`: where RabbitMQ is: `amqp://USER:PASSWORD@HOST:PORT/VHOST`
    - `queue`: the queue of RabbitMQ; `into`: the queue of emq, by default of the same name
    - `prefetch`: how many messages may be unacknowledged, 1 to 65535
    - `unique_for`: for how long the `message_id` of a message stays taken as the key of its task; 0 for no keys
    """
    fields: dict[str, object] = {"amqp": amqp, "queue": queue}
    if into is not None:
        fields["into"] = into
    if prefetch is not None:
        fields["prefetch"] = prefetch
    if unique_for is not None:
        fields["unique_for"] = _json.seconds(unique_for, "unique_for")
    return _change("PUT", path("/source/", name), fields)


def delete_source(name: str) -> Call[None]:
    """Removes a source; its messages that are not tasks yet go back to RabbitMQ. Raises `NoSuchSource`."""
    return Call("DELETE", path("/source/", name), no_value, done_error="no-such-source")


def pause_source(name: str) -> Call[SourceStatus]:
    """Closes the connection of a source until `resume_source`. Raises `NoSuchSource`."""
    return Call("POST", path("/source/", name) + "/pause", value_of)


def resume_source(name: str) -> Call[SourceStatus]:
    """Opens the connection of a source again. Raises `NoSuchSource`."""
    return Call("POST", path("/source/", name) + "/resume", value_of)


def metrics() -> Call[str]:
    """The server's metrics in the text format of Prometheus."""
    return Call("GET", "/metrics", _text)


def queue_metrics(*, match: str | None = None, n: int | None = None) -> Call[str]:
    """The metrics of each queue in the text format of Prometheus; at most `n` queues, up to 1000."""
    return Call("GET", path("/metrics/queues", match=match, n=n), _text)


def healthz() -> Call[Health]:
    """Checks whether the server is up. A server that starts or stops answers too: see `status`."""
    return Call("GET", "/healthz", value_of, other_status=503)


def openapi() -> Call[dict[str, Any]]:
    """The description of the server's interface in OpenAPI."""
    return Call("GET", "/openapi.json", value_of)


def access() -> Call[Access]:
    """Shows what the client may do. Raises `Unauthorized` without a valid token, if the server has tokens."""
    return Call("GET", "/access", value_of)


def _change(method: str, target: str, fields: Mapping[str, Any]) -> Call[Any]:
    push: object = fields.get("push")
    secrets: object = cast("Mapping[str, object]", push).get("secrets") if isinstance(push, Mapping) else None
    # In a list, `***` stands for a secret by its place, which the first try may have changed.
    is_shifting = isinstance(secrets, (list, tuple)) and "***" in secrets
    repeatable_for = NEVER if is_shifting else ALWAYS
    return Call(method, target, value_of, body=_json.encode(fields), repeatable_for=repeatable_for)


def _text(answer: Answer) -> str:
    return answer.body.decode()
