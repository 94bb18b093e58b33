"""Handshakes and ends of connections that no proper client makes, and clients that never finish a handshake."""

import os
import random
import resource
import socket
import ssl
import struct
import time

from tls_test.peers import Emq, attempt, check, client_context, eventually, get, part, post, read_answers

HALF_OPEN = 10_000


def run():
    server = Emq()
    broken_handshakes(server)
    ends(server)
    server.stop()
    flood()


def hello(**attributes):
    """The bytes of a ClientHello, and the object that made it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(**attributes).wrap_bio(incoming, outgoing, server_hostname="localhost")
    attempt(client.do_handshake)
    return outgoing.read(), client, incoming, outgoing


def is_closed(raw, seconds):
    """Whether the server closes the connection within so many seconds, and how long that took."""
    begun = time.monotonic()
    raw.settimeout(seconds)
    while (got := attempt(lambda: raw.recv(65536))):
        if isinstance(got, str):
            return "timed out" not in got, time.monotonic() - begun
    return True, time.monotonic() - begun


def record(kind, body, version=0x0303):
    return struct.pack(">BHH", kind, version, len(body)) + body


def broken_handshakes(server):
    part("slow, cut, wrong and hostile handshakes")
    # One after the other, so that none of them hides another one.
    eventually(server.works)
    base = server.descriptors()
    first = hello()[0]
    numbers = random.Random(1)
    noise = lambda count: bytes(numbers.randrange(256) for _ in range(count))
    wrong = {
        "noise": b"\x80" + noise(200),
        "zeros": bytes(1000),
        "noise after a record's header": b"\x16\x03\x01\x02\x00" + noise(0x200),
        "a record of 64 KiB": b"\x16\x03\x01\xff\xff" + noise(0xFFFF),
        "an empty record": record(22, b"") * 100,
        "a server's hello": record(22, b"\x02" + first[6:]),
        "an alert at first": record(21, b"\x02\x28"),
        "application data at first": record(23, noise(100)),
        "a hello of TLS 1.0": record(22, first[5:9] + b"\x03\x01" + first[11:20], 0x0301),
        "a hello whose length is wrong": first[:6] + b"\xff\xff\xff" + first[9:],
        "a hello with noise at the end": first[:-60] + noise(60),
        "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + noise(40),
        "warnings without end": record(21, b"\x01\x5a") * 1000,
        "a hello and application data": first + record(23, noise(1000)),
        "a hello twice": first + first,
        "changes of the cipher without end": first + record(20, b"\x01") * 1000,
        "a hello and noise": first + noise(2000),
    }
    for place in range(20):
        damaged = bytearray(first)
        damaged[numbers.randrange(5, len(first))] ^= 1 << numbers.randrange(8)
        wrong[f"a hello with a wrong bit ({place})"] = bytes(damaged)
    for name, data in wrong.items():
        with server.raw() as raw:
            attempt(lambda: raw.sendall(data))
            attempt(lambda: raw.shutdown(socket.SHUT_WR))
            closed, seconds = is_closed(raw, 5)
            check(f"{name}: closed at once", closed and seconds < 5, f"{closed} after {seconds:.1f} s")
        check(f"{name}: emq still works", server.works(), server.log())
    # Cut after each number of bytes, and left in different ways.
    for count in [*range(1, 12), 50, len(first) - 1, len(first)]:
        for ends in ("half-closed", "closed", "reset"):
            raw = server.raw()
            raw.sendall(first[:count])
            if ends == "half-closed":
                attempt(lambda: raw.shutdown(socket.SHUT_WR))
                check(f"{count} bytes and a half-close: closed", is_closed(raw, 5)[0], "it stays open")
            if ends == "reset":
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
    check("emq still works", server.works(), server.log())
    # Byte by byte, as a proper client on a strange network might send it.
    with server.raw() as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data, client, incoming, outgoing = hello()
        for byte in data:
            raw.sendall(bytes([byte]))
        while attempt(client.do_handshake) is not None:
            chunk = raw.recv(7)
            if not chunk:
                break
            incoming.write(chunk)
        for byte in outgoing.read():
            raw.sendall(bytes([byte]))
        check("byte by byte", "TLSv1.3", client.version())
    # Those that are silent or too slow have about 10 s. Both wait at the same time.
    raws = {"silent from the beginning": server.raw(), "silent after a hello": server.raw(), "too slow": server.raw()}
    raws["silent after a hello"].sendall(first)
    begun = time.monotonic()
    slow = raws["too slow"]
    for byte in first:
        if isinstance(attempt(lambda: slow.send(bytes([byte]))), str) or time.monotonic() > begun + 20:
            break
        time.sleep(0.1)
    check("a hello that takes too long is cut", 8 < time.monotonic() - begun < 18, time.monotonic() - begun)
    for name, raw in raws.items():
        closed, _ = is_closed(raw, max(1, begun + 18 - time.monotonic()))
        check(f"{name}: closed", closed, "it stays open")
        raw.close()
    check("no descriptor is left", eventually(lambda: server.descriptors() <= base), f"{server.descriptors()}, not {base}")
    check("emq still works", server.works(), server.log())


def ends(server):
    part("ends of connections")
    connection = server.connect()
    connection.sendall(get("/healthz", "Connection: close\r\n"))
    check("an answer", '"status"', read_answers(connection))
    check("emq ends with close_notify", attempt(lambda: connection.recv(1)) == b"", "the end was ragged")
    # close_notify ends only one direction.
    data, client, incoming, outgoing = hello()
    with server.raw() as raw:
        raw.sendall(data)
        while attempt(client.do_handshake) is not None:
            incoming.write(raw.recv(65536))
        client.write(post("/enqueue/half", {"content": 1}))
        attempt(client.unwrap)
        raw.sendall(outgoing.read())
        got = ""
        while '"id"' not in got:
            chunk = raw.recv(65536)
            if not chunk:
                break
            incoming.write(chunk)
            while isinstance(text := attempt(lambda: client.read(65536)), bytes) and text:
                got += text.decode()
        check("close_notify behind a request: the answer comes", '"id"', got)
    connection = server.connect()
    request = post("/enqueue/cut", {"content": "x" * 1000})
    connection.sendall(request[:-10])
    # Without close_notify.
    connection.close()
    connection = server.connect()
    connection.sendall(request[:-10])
    attempt(connection.unwrap)
    connection.close()
    check("a request that is cut is none", server.call("GET", "/stats/cut")[1].get("ready", 0) == 0, "it was served")
    # A record whose bytes are changed on the way.
    data, client, incoming, outgoing = hello()
    with server.raw() as raw:
        raw.sendall(data)
        while attempt(client.do_handshake) is not None:
            incoming.write(raw.recv(65536))
        raw.sendall(outgoing.read())
        client.write(post("/enqueue/forged", {"content": 1}))
        forged = bytearray(outgoing.read())
        forged[-30] ^= 1
        raw.sendall(forged)
        check("a forged record ends the connection", is_closed(raw, 5)[0], "it stays open")
    check("a forged record is no request", server.call("GET", "/stats/forged")[1].get("ready", 0) == 0, "it was served")
    # Unfinished requests whose clients vanish.
    for _ in range(50):
        connection = server.connect()
        connection.sendall(post("/wait/", {"queues": ["none"], "timeout": 60_000}))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    check("no waiter is left", eventually(lambda: server.call("GET", "/stats/none")[1].get("waiters", 0) == 0), "there is")


def rate(server, seconds):
    """Requests a second on one kept connection, and on new connections."""
    connection = server.connect()
    begun, count = time.monotonic(), 0
    while time.monotonic() < begun + seconds:
        connection.sendall(get())
        read_answers(connection)
        count += 1
    kept = count / seconds
    begun, count = time.monotonic(), 0
    while time.monotonic() < begun + seconds:
        with server.connect() as connection:
            connection.sendall(get())
            read_answers(connection)
        count += 1
    return kept, count / seconds


def flood():
    part(f"{HALF_OPEN} half-open connections")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = HALF_OPEN + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        print(f"  skipped: a process may open only {hard} files here")
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    server = Emq(addresses=("https://127.0.0.1:0", "http://127.0.0.1:0"))
    plain = Emq.__new__(Emq)
    plain.url, plain.port = server.urls[1], int(server.urls[1].rsplit(":", 1)[1])
    base = server.descriptors()
    before = rate(server, 2)
    data = hello()[0]
    begun = time.monotonic()
    # A third is silent, a third sends half of a hello, and a third a whole one, and leaves the answer unread.
    raws = []
    for number in range(HALF_OPEN):
        raw = attempt(lambda: server.raw(5))
        if isinstance(raw, str):
            check("a half-open connection is accepted", False, raw)
            break
        attempt(lambda: raw.sendall((b"", data[:100], data)[number % 3]))
        raws.append(raw)
    seconds = time.monotonic() - begun
    during = rate(server, 2)
    check("a plain client works too", plain.works(), "it does not")
    with open(f"/proc/{server.process.pid}/status") as status:
        resident = next(line.split()[1] for line in status if line.startswith("VmRSS"))
    print(f"  opened in {seconds:.1f} s; emq has {int(resident) >> 10} MB resident")
    for name, one, other in zip(("on a kept connection", "on new connections"), before, during):
        print(f"  a TLS client {name}: {other:,.0f} requests/s meanwhile, {other / one:.2f} × of {one:,.0f}")
        check(f"a TLS client works {name}", other > 0.1 * one, f"{other} of {one}")
    # New ones take the place of half-open ones without end.
    begun, count = time.monotonic(), 0
    while time.monotonic() < begun + 3:
        raws[count % len(raws)].close()
        raws[count % len(raws)] = server.raw(5)
        attempt(lambda: raws[count % len(raws)].sendall(data))
        count += 1
        if count % 200 == 0:
            check("a TLS client works while more come", server.works(), server.log())
    for raw in raws:
        raw.close()
    check("no descriptor is left", eventually(lambda: server.descriptors() <= base + 2, 20), server.descriptors())
    server.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
