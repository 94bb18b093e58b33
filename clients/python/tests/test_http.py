"""The parser of responses, without a network."""

from __future__ import annotations

import random

import pytest

from emq._http import MAXIMUM_HEAD_BYTES, MalformedResponse, Response, ResponseParser

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n[1, 2]\r\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nX-a: 2\r\n\r\n"
    b"5;ext=1\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: x\r\n\r\n"
)


def parse(*pieces: bytes) -> Response | None:
    parser = ResponseParser()
    for piece in pieces:
        response = parser.feed(piece)
        if response is not None:
            return response
    return None


@pytest.mark.parametrize(
    ("message", "body"), [(PLAIN, b"[1, 2]\r\n"), (CHUNKED, b"helloabcdefghijklmnopqrstuvwxyz")]
)
def test_reads_a_response_in_pieces_of_any_size(message: bytes, body: bytes) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    generator = random.Random(seed)
    cuts = [[size] * len(message) for size in (1, 2, 3, 7, len(message))]
    cuts += [[generator.randint(1, 30) for _ in message] for _ in range(50)]
    for sizes in cuts:
        parser, position, response = ResponseParser(), 0, None
        for size in sizes:
            assert response is None
            response = parser.feed(message[position : position + size])
            position += size
            if position >= len(message):
                break
        assert response is not None
        assert (response.status, response.body, response.reusable) == (200, body, True)


def test_joins_fields_and_knows_when_a_connection_ends() -> None:
    response = parse(CHUNKED)
    assert response is not None and response.fields["x-a"] == "1, 2"
    for head in (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n"):
        response = parse(head + b"Content-Length: 1\r\n\r\nx")
        assert response is not None and not response.reusable
    response = parse(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert response is not None and response.reusable and response.body == b""
    # More than was asked for.
    response = parse(PLAIN + PLAIN)
    assert response is not None and not response.reusable
    response = parse(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN)
    assert response is not None and response.status == 200


def test_ends_a_body_without_a_length_with_the_connection() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\nsome") is None
    assert parser.feed(b" text") is None
    response = parser.end()
    assert (response.body, response.reusable) == (b"some text", False)


@pytest.mark.parametrize(
    "message",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nName : value\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: value\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAXIMUM_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAXIMUM_HEAD_BYTES + b"\r\n\r\n",
    ],
)
def test_refuses_what_is_no_response(message: bytes) -> None:
    with pytest.raises(MalformedResponse):
        parse(message)
    parser = ResponseParser()
    with pytest.raises(MalformedResponse):
        for index in range(len(message)):
            parser.feed(message[index : index + 1])


@pytest.mark.parametrize("message", [b"", b"HTTP/1.1 2", PLAIN[:-1], CHUNKED[:-2], CHUNKED[:80]])
def test_refuses_a_response_that_ends_too_early(message: bytes) -> None:
    parser = ResponseParser()
    assert parser.feed(message) is None
    with pytest.raises(MalformedResponse):
        parser.end()


def test_refuses_random_bytes_or_waits_but_never_fails_otherwise() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    generator = random.Random(seed)
    for _ in range(2000):
        message = bytearray(generator.choice([PLAIN, CHUNKED]))
        for _ in range(generator.randint(1, 4)):
            message[generator.randrange(len(message))] = generator.randrange(256)
        parser = ResponseParser()
        try:
            if parser.feed(bytes(message)) is None:
                parser.end()
        except MalformedResponse:
            pass


@pytest.mark.parametrize(("text", "seconds"), [("5", 5), ("", None), ("soon", None), ("-1", None), ("1.5", None)])
def test_reads_retry_after(text: str, seconds: float | None) -> None:
    assert Response(503, {"retry-after": text}, b"", True).retry_after == seconds


def test_reads_dates_in_retry_after() -> None:
    assert Response(503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"", True).retry_after == 0
    later = Response(503, {"retry-after": "Wed, 21 Oct 2065 07:28:00 GMT"}, b"", True).retry_after
    assert later is not None and later > 1e6
