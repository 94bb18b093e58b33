"""HTTP/1.1 without sockets: one strict and bounded parser of responses, which both clients feed."""

import email.utils
import re
import time

MAXIMUM_HEAD_BYTES = 65_536
MAXIMUM_FIELDS = 100
MAXIMUM_BODY_BYTES = 1 << 30

_FIELD_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n\0]*)?").fullmatch
_DIGITS = re.compile(r"[0-9]{1,15}").fullmatch
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?").fullmatch


class MalformedResponse(Exception):
    """What came is not a response of HTTP/1.1, or is too large."""


class Response:
    """A response: its status, its fields by their names in lower case, and its body.

    `reusable` says whether the connection can carry another request.
    """

    __slots__ = ("body", "fields", "reusable", "status")

    def __init__(self, status: int, fields: dict[str, str], body: bytes, reusable: bool) -> None:
        self.status = status
        self.fields = fields
        self.body = body
        self.reusable = reusable

    @property
    def retry_after(self) -> float | None:
        """The seconds of `Retry-After`, which may also be a date; None without one, or with one that is malformed."""
        text = self.fields.get("retry-after", "").strip()
        if _DIGITS(text):
            return float(text)
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return None


class ResponseParser:
    """Makes one response of the bytes that a connection receives.

    Once it has the head, `status` and `fields` are there. With `streaming`, the body is not collected: `body` has
    what has come of it, for the caller to take away.
    """

    __slots__ = ("_buffer", "_chunked", "_left", "_streaming", "_version", "body", "fields", "started", "status")

    def __init__(self, streaming: bool = False) -> None:
        self._buffer = bytearray()
        self._streaming = streaming
        self._chunked = False
        self._version = 1
        # The bytes of the body, or of the chunk, that are still to come: -1 before a chunk's size, -2 after a chunk,
        # -3 in the trailer, -4 for a body that the end of the connection ends.
        self._left = 0
        self.started = False
        """Whether any byte of the response has come."""
        self.status = 0
        self.fields: dict[str, str] = {}
        self.body = bytearray()

    def feed(self, data: bytes) -> Response | None:
        """Takes what the connection has received, and returns the response when it is complete.

        Raises `MalformedResponse`.
        """
        searched = max(0, len(self._buffer) - 3)
        self._buffer += data
        self.started = True
        while not self.status:
            end = self._buffer.find(b"\r\n\r\n", searched)
            searched = 0
            if end < 0 or end > MAXIMUM_HEAD_BYTES:
                if len(self._buffer) > MAXIMUM_HEAD_BYTES:
                    raise MalformedResponse("the head of the answer is too large")
                # Something that does not speak HTTP may never send the end of a head.
                if self._buffer and not self._buffer.startswith(b"HTTP/1."[: len(self._buffer)]):
                    raise MalformedResponse("the answer is not HTTP/1.1")
                return None
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            self._read_head(head)
        return self._read_chunks() if self._chunked else self._read_body()

    def end(self) -> Response:
        """The response, when the connection has ended. Raises `MalformedResponse` if the response is not complete."""
        if self.status and self._left == -4:
            return Response(self.status, self.fields, bytes(self.body), False)
        raise MalformedResponse("the connection ended in the middle of the answer")

    def _read_head(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        line = _STATUS_LINE(lines[0])
        if line is None:
            raise MalformedResponse("the answer is not HTTP/1.1")
        status = int(line[2])
        if len(lines) > MAXIMUM_FIELDS + 1:
            raise MalformedResponse("the answer has too many header fields")
        fields: dict[str, str] = {}
        for field in lines[1:]:
            name, colon, value = field.partition(b":")
            if not colon or _FIELD_NAME(name) is None or b"\n" in value or b"\r" in value or b"\0" in value:
                raise MalformedResponse("a header field of the answer is malformed")
            key, text = name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")
            if key in fields:
                if key in ("content-length", "transfer-encoding"):
                    raise MalformedResponse("the answer has two lengths")
                text = f"{fields[key]}, {text}"
            fields[key] = text
        if 100 <= status < 200:
            if status == 101:
                raise MalformedResponse("the answer changes the protocol")
            return
        self._version = int(line[1])
        length, coding = fields.get("content-length"), fields.get("transfer-encoding")
        if coding is not None:
            if length is not None or coding.lower() != "chunked":
                raise MalformedResponse("the answer has two lengths, or an unknown transfer coding")
            self._chunked, self._left = True, -1
        elif status in (204, 304):
            self._left = 0
        elif length is not None:
            if _DIGITS(length) is None or int(length) > MAXIMUM_BODY_BYTES:
                raise MalformedResponse("the answer's length is malformed or too large")
            self._left = int(length)
        else:
            self._left = -4
        self.status, self.fields = status, fields

    def _read_body(self) -> Response | None:
        buffer = self._buffer
        if self._left == -4:
            self._take(len(buffer))
            return None
        if not self._streaming and not self.body and len(buffer) == self._left:
            # Nearly every response comes in one piece.
            body = bytes(buffer)
            buffer.clear()
            return self._complete(body)
        part = min(self._left, len(buffer))
        self._take(part)
        self._left -= part
        return self._complete(bytes(self.body)) if self._left == 0 else None

    def _read_chunks(self) -> Response | None:
        buffer = self._buffer
        while True:
            if self._left > 0:
                part = min(self._left, len(buffer))
                self._take(part)
                self._left -= part
                if self._left:
                    return None
                self._left = -2
            end = buffer.find(b"\r\n")
            if end < 0:
                if len(buffer) > MAXIMUM_HEAD_BYTES:
                    raise MalformedResponse("a chunk of the answer is malformed")
                return None
            line = bytes(buffer[:end])
            del buffer[: end + 2]
            if self._left == -2:
                if line:
                    raise MalformedResponse("a chunk of the answer is malformed")
                self._left = -1
            elif self._left == -3:
                if not line:
                    return self._complete(bytes(self.body))
            else:
                size = _CHUNK_SIZE(line)
                if size is None:
                    raise MalformedResponse("a chunk of the answer is malformed")
                self._left = int(size[1], 16) or -3

    def _take(self, count: int) -> None:
        """Moves bytes from what was received to the body."""
        if len(self.body) + count > MAXIMUM_BODY_BYTES:
            raise MalformedResponse("the answer is too large")
        self.body += self._buffer[:count]
        del self._buffer[:count]

    def _complete(self, body: bytes) -> Response:
        fields = self.fields
        # Bytes after the response answer nothing that was asked.
        reusable = self._version == 1 and not self._buffer and "close" not in fields.get("connection", "").lower()
        return Response(self.status, fields, body, reusable)
