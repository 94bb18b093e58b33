"""Server-sent events, as the server makes them, without sockets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from ._call import Answer, Call
from ._json import Duration, decode, seconds
from ._types_server import Event

SILENCE_SECONDS = 45.0
"""After how many seconds without a byte a stream counts as broken: the server sends something every 15 s."""

MAXIMUM_EVENT_BYTES = 256 << 20

_NAME = re.compile(rb"([0-9]{1,2})(?:/([0-9]{3}))?").fullmatch


def events(get: str | Iterable[str], interval: Duration | None) -> Call[None]:
    """The request for a stream of the answers to some requests."""
    paths = [get] if isinstance(get, str) else list(get)
    if not paths:
        raise ValueError("name at least one path to watch")
    query = [f"get={quote(path, safe='')}" for path in paths]
    if interval is not None:
        query.append(f"interval={seconds(interval, 'interval'):g}")
    # A stream lasts as long as a wait, at least for the number of connections that waits may have.
    return Call("GET", "/events?" + "&".join(query), _ended, waits=SILENCE_SECONDS)


def _ended(answer: Answer) -> None:
    if not answer.fields.get("content-type", "").startswith("text/event-stream"):
        raise ValueError("the answer is not a stream of events")


class EventParser:
    """Makes events of the bytes of a stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.stopping = False
        """Whether the server has said that it stops."""

    def feed(self, data: bytes) -> list[Event]:
        """Takes what came, and returns the events that are complete. Raises `ValueError` for what emq does not send."""
        # The server ends its lines with a line feed alone.
        searched = max(0, len(self._buffer) - 1)
        self._buffer += data
        events: list[Event] = []
        while (end := self._buffer.find(b"\n\n", searched)) >= 0:
            event = self._event(bytes(self._buffer[:end]))
            del self._buffer[: end + 2]
            searched = 0
            if event is not None:
                events.append(event)
        if len(self._buffer) > MAXIMUM_EVENT_BYTES:
            raise ValueError("an event is too large")
        return events

    def _event(self, block: bytes) -> Event | None:
        name, data = b"", list[bytes]()
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                name = value
            elif field == b"data":
                data.append(value)
        if name == b"stopping":
            self.stopping = True
            return None
        if not name and not data:
            return None
        match = _NAME(name)
        if match is None:
            raise ValueError("an event has an unknown name")
        return Event(int(match[1]), int(match[2] or 200), decode(b"\n".join(data)))
