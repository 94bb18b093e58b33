"""A task's whole life, through three HTTP clients for Python. `run` calls this with the server's URL."""

import asyncio
import http.client
import json
import socket
import sys
import threading
import time
import urllib.parse

import aiohttp
import requests

url = sys.argv[1]
host = urllib.parse.urlsplit(url).netloc
large = json.dumps({"content": "y" * 5_000_000})


class StandardLibrary:
    """http.client, with one persistent connection."""

    def __init__(self):
        self.connection = http.client.HTTPConnection(host, timeout=20)

    def __call__(self, method, path, body=None):
        # An iterator has no length, so http.client sends chunks.
        pieces = iter([body[:7].encode(), body[7:].encode()]) if body and len(body) > 1000 else body
        self.connection.request(method, path, pieces, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


class Requests:
    def __init__(self):
        self.session = requests.Session()

    def __call__(self, method, path, body=None):
        answer = self.session.request(method, url + path, data=body, headers={"Content-Type": "application/json"}, timeout=20)
        return answer.status_code, answer.headers["Content-Type"], answer.text


class Aiohttp:
    """aiohttp, with an event loop for each instance."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.session = None

    def __call__(self, method, path, body=None):
        return self.loop.run_until_complete(self.request(method, path, body))

    async def request(self, method, path, body):
        if self.session is None:
            self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))

        async def pieces():
            yield body[:7].encode()
            yield body[7:].encode()

        data = pieces() if body and len(body) > 1000 else body
        async with self.session.request(method, url + path, data=data, headers={"Content-Type": "application/json"}) as answer:
            return answer.status, answer.headers["Content-Type"], await answer.text()

    def close(self):
        if self.session is not None:
            self.loop.run_until_complete(self.session.close())


def expect(what, wanted, got):
    if wanted != got:
        raise AssertionError(f"{what}: wanted {str(wanted)[:200]}, got {str(got)[:200]}")


def life_of_a_task(client, make, name):
    def call(method, path, body=None, status=200, kind="application/json"):
        got = client(method, path, body if body is None or isinstance(body, str) else json.dumps(body))
        expect(f"{method} {path} {str(body)[:100]}", (status, kind), got[:2])
        return json.loads(got[2])

    queue = f"{name}/ä {name}"
    path = urllib.parse.quote(queue)
    identifier = call("POST", f"/enqueue/{path}", {"content": {"n": 1}})["id"]
    expect("peek", [identifier], [task["id"] for task in call("GET", f"/peek/{path}?n=5")])
    expect("queues", True, queue in call("GET", "/queues"))
    task = call("POST", "/wait/", {"queues": [queue]})[0]
    expect("content", {"n": 1}, task["content"])
    expect("nak", {"requeued": 1, "dead": 0, "missing": []}, call("POST", "/nak/", {"ids": [task["receipt"]]}))
    task = call("POST", "/wait/", {"queues": [queue]})[0]
    expect("attempt", 2, task["attempt"])
    expect("ack", {"acked": 1, "missing": []}, call("POST", "/ack/", {"ids": [task["receipt"]]}))
    expect("ack again", {"acked": 0, "missing": [identifier]}, call("POST", "/ack/", {"ids": [identifier]}))

    # An enqueue wakes a long poll in another thread. Either may come first.
    woken = []
    worker = make()
    thread = threading.Thread(target=lambda: woken.append(worker("POST", "/wait/", json.dumps({"queues": [queue], "timeout": 15000}))))
    thread.start()
    call("POST", f"/enqueue/{path}", {"content": "wake up"})
    thread.join(20)
    getattr(worker, "close", lambda: None)()
    expect("the woken worker's task", "wake up", json.loads(woken[0][2])[0]["content"])

    # The worker dies: its task comes back when the lease ends.
    call("POST", f"/enqueue/{path}", {"content": "lost", "retry": 0.3})
    call("POST", "/wait/", {"queues": [queue]})
    task = call("POST", "/wait/", {"queues": [queue], "timeout": 15000})[0]
    expect("attempt", 2, task["attempt"])

    # A large content, in chunks if the client can; it must come back byte for byte.
    call("POST", f"/enqueue/{path}", large)
    expect("large content", json.loads(large)["content"], call("POST", "/wait/", {"queues": [queue]})[0]["content"])

    problem = call("POST", f"/enqueue/{path}", {"contents": 1}, 400, "application/problem+json")
    expect("the field at fault", "contents", problem["field"])
    expect("the type of an error", "urn:emq:error:unknown-field", problem["type"])
    call("GET", "/nowhere", None, 404, "application/problem+json")
    getattr(client, "close", lambda: None)()


def one_connection_for_many_requests():
    client = StandardLibrary()
    client("GET", "/healthz")
    kept = client.connection.sock
    for _ in range(1000):
        client("GET", "/healthz")
    expect("the socket", True, client.connection.sock is kept)


def a_thousand_pipelined_requests():
    requests_text = "".join(f"GET /peek/{number} HTTP/1.1\r\nHost: h\r\n\r\n" for number in range(999))
    with socket.create_connection(host.split(":"), 20) as connection:
        threading.Thread(target=connection.sendall, args=((requests_text + "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").encode(),)).start()
        answers = b""
        while data := connection.recv(65536):
            answers += data
    expect("answers", 1000, answers.count(b"HTTP/1.1 200 OK"))
    expect("the last answer", True, answers.endswith(b'{"status":"ok"}\n'))


checks = [(make.__name__, lambda make=make: life_of_a_task(make(), make, make.__name__)) for make in (StandardLibrary, Requests, Aiohttp)]
checks += [(check.__name__, check) for check in (one_connection_for_many_requests, a_thousand_pipelined_requests)]
failures = 0
for name, check in checks:
    begin = time.monotonic()
    try:
        check()
        print(f"  {name}: passed in {time.monotonic() - begin:.1f} s")
    except Exception as error:
        failures += 1
        print(f"  {name}: FAILED: {error!r}")
sys.exit(failures > 0)
