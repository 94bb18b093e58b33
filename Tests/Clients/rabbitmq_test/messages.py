"""Messages that arrive: taskqueue's, those of all kinds and sizes, and those of queues of all kinds."""

import base64
import datetime
import decimal
import http.server
import json
import queue
import struct
import threading
import time

import pika

from rabbitmq_test.program import Emq
from tls_test.peers import check, eventually, part


def run(node):
    finish = with_taskqueue(node)
    kinds(node)
    properties(node)
    sizes(node)
    kinds_of_queues(node)
    deleted_queue(node)
    many_sources(node)
    with_tls(node)
    finish()


class Receiver:
    """An HTTP server that puts its requests into a queue: path, fields, body, time."""

    def __init__(self):
        self.received = queue.Queue()
        self.seen = []
        received = self.received

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                received.put((self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"] or 0)),
                              time.time()))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def take(self, path, seconds=10):
        """The next request for a path, or None."""
        def find():
            while not self.received.empty():
                self.seen.append(self.received.get())
            return next((request for request in self.seen if request[0] == path), None)
        found = eventually(find, seconds)
        if found:
            self.seen.remove(found)
        return found


# The settings of the file that taskqueue ships.
SAMPLE = """\
base_url = {receiver}
server = "{server}"

[Queue1]
concurrency = 1
rate = 1/s
retry_limit = 10
min_backoff_seconds = 10
max_backoff_seconds = 200
max_doublings = 3
[Queue2]
concurrency = 3
rate = 21.5/m
[Queue3]
concurrency = 2
rate = 10000000000/s
"""


def with_taskqueue(node):
    part("taskqueue's file")
    receiver = Receiver()
    file = f"{node.directory}/taskqueue.ini"
    with open(file, "w") as ini:
        ini.write(SAMPLE.format(receiver=receiver.url, server=node.url(vhost="/")))
    # Queue2 is there already, as taskqueue declared it, with a message. emq declares the other two.
    node.declare("Queue2")
    documented = {"url": "/tasks/my_fun_task", "countdown": 20, "max_retries": 3, "roll_back": "/tasks/my_fun_task"}
    plain = {"content_type": "text/plain"}
    node.publish("Queue2", json.dumps({"url": f"{receiver.url}/earlier", "payload": "{}"}), **plain)
    server = Emq("--taskqueue", file, push=None)
    for name in ("Queue1", "Queue2", "Queue3"):
        server.until(name, "consuming")
    check("a message that was there before", "/earlier", receiver.take("/earlier"))
    check("emq declared Queue1 and Queue3, durable", True, node.ready("Queue1") == node.ready("Queue3") == 0)
    published = time.time()
    node.publish("Queue1", json.dumps(documented), **plain)

    payload = '{"b": [1.50, "é"],  "a": null}'
    message = {"url": "/tasks/other", "payload": payload, "metadata": {"x": 1}, "queue": "Queue3"}
    node.publish("Queue3", json.dumps(message), **plain)
    over_amqp = receiver.take("/tasks/other")
    server.call("POST", "/enqueue/Queue3", {"content": message})
    over_http = receiver.take("/tasks/other")
    check("the payload arrives byte for byte", True, over_amqp is not None and over_amqp[2] == payload.encode())
    check("the request is the same over HTTP", True,
          over_amqp and over_http and (over_amqp[1].items(), over_amqp[2]) == (over_http[1].items(), over_http[2]))
    node.publish("Queue1", json.dumps({**message, "queue": "Queue3", "url": "/moved"}), **plain)
    check("a message that names another queue", "/moved", receiver.take("/moved"))

    malformed = [
        b"not JSON", b"", b"[1, 2]", b'{"url": 7}', b'{"payload": "no URL"}', b'{"url": "/x"} and more', b"\xff\xfe"]
    node.publish("Queue3", *malformed, **plain)
    server.until_tasks("Queue3", len(malformed))
    dead = server.call("GET", "/peek/Queue3?state=dead&n=100")[1]
    check("malformed messages are dead tasks", len(dead) == len(malformed), dead)
    for body in malformed:
        text = base64.b64encode(body).decode() if body == b"\xff\xfe" else body.decode()
        view = next((view for view in dead if text in (view["content"], json.dumps(view["content"]))
                     or text and text.startswith(("{", "[")) and json.dumps(view["content"]) in text), None)
        check(f"{body} is kept", True, view is not None or f"{dead}"[:0])
        check(f"{body} has a reason", True, bool(view and view.get("error")))
        print(f"  {body}: {view and view.get('error')}", flush=True)
    node.publish("Queue3", json.dumps({"url": "/after"}), **plain)
    check("the messages after them", "/after", receiver.take("/after"))
    eventually(lambda: node.counts("Queue3")[1] == 0)
    check("all are acknowledged", (0, 0, 1) == node.counts("Queue3"), node.counts("Queue3"))
    check("a section's source cannot be deleted", server.call("DELETE", "/source/Queue1")[0] == 409, "")
    check("it can be paused", server.call("POST", "/source/Queue1/pause")[0] == 200, "")
    server.until("Queue1", "paused")
    server.call("POST", "/source/Queue1/resume")
    server.until("Queue1", "consuming")

    def finish():
        part("the documented message")
        came = receiver.take("/tasks/my_fun_task", 25)
        check("it arrives", "/tasks/my_fun_task", came)
        check("after its countdown", came is not None and 20 <= came[3] - published < 25, came and came[3] - published)
        server.stop()

    # Its countdown is 20 s.
    return finish


def kinds(node):
    part("contents, and how they come")
    node.declare("kinds")
    server = Emq()
    server.add("kinds", node.url())
    bodies = [
        (b'{"z": 1.50,  "a": [null]}', {"z": 1.5, "a": [None]}, None),
        (b'"text"', "text", None),
        (b"17", 17, None),
        (b"plain text", "plain text", None),
        ('"quoted" \\ line\nü\u2028\x00\x1f'.encode(), '"quoted" \\ line\nü\u2028\x00\x1f', None),
        (b"", "", None),
        (b" ", " ", None),
        (b'{"a": 1} x', '{"a": 1} x', None),
        (b"[" * 100_000, "[" * 100_000, None),
        (b"\xff\x00\xfe", base64.b64encode(b"\xff\x00\xfe").decode(), "base64"),
        (bytes(range(256)) * 100, base64.b64encode(bytes(range(256)) * 100).decode(), "base64"),
    ]
    node.publish("kinds", *[body for body, _, _ in bodies])
    views = server.take("kinds", len(bodies))
    for (body, content, kind), view in zip(bodies, views):
        check(f"the content of {body[:30]}", view["content"] == content, view["content"])
        check(f"the kind of {body[:30]}", (view.get("metadata") or {}).get("body") == kind, view.get("metadata"))
    raw = node.channel()
    try:
        raw.basic_publish("", "there is no such queue", b"lost", mandatory=True)
        check("an unroutable message is returned", False, "")
    except pika.exceptions.UnroutableError:
        pass
    raw.connection.close()
    server.until("kinds", "consuming")
    check("nothing came of it", server.source("kinds")["messages"] == len(bodies), server.source("kinds"))
    server.stop()


class Field(bytes):
    """A value of a header as it is on the wire, for types that pika does not send."""


# Name, the format of `struct` with the type on the wire, value.
NUMBERS = [("byte", "bb", -5), ("unsigned-byte", "BB", 200), ("short", "hs", -300), ("unsigned-short", "Hu", 60_000),
           ("unsigned", "Ii", 4_000_000_000), ("float", "ff", 0.5), ("double", "dd", 1.5)]

plainly_encoded = pika.data.encode_value


def encode_value(pieces, value):
    if not isinstance(value, Field):
        return plainly_encoded(pieces, value)
    pieces.append(bytes(value))
    return len(value)


pika.data.encode_value = encode_value


def waiting(server, queue):
    """The one task that waits in a queue, with all that emq knows about it."""
    eventually(lambda: server.tasks(queue))
    views = server.call("GET", f"/peek/{queue}?n=10")[1]
    check("one task", len(views) == 1, views)
    return server.call("GET", f"/task/{views[0]['id']}")[1] if views else {}


def properties(node):
    part("properties")
    node.declare("properties")
    server = Emq()
    server.add("properties", node.url())
    headers = {
        "text": "é", "bytes": b"\x00\xff", "yes": True, "no": False, "small": 1, "large": -(1 << 60),
        "decimal": decimal.Decimal("3.14"), "nothing": None, "empty": {},
        "time": datetime.datetime.fromtimestamp(1_700_000_000, datetime.timezone.utc),
        "table": {"a": {"b": [1, "x", None, True]}}, "array": [1, [2, ["three"]], {"four": 4}],
        **{name: Field(kind[-1:].encode() + struct.pack(f">{kind[0]}", number)) for name, kind, number in NUMBERS},
    }
    sent = {
        "content_type": "application/x-test", "content_encoding": "utf-8", "correlation_id": "correlation-1",
        "reply_to": "answers", "message_id": "message-1", "type": "kind", "user_id": "emq", "app_id": "test",
        "timestamp": 1_700_000_000}
    now = time.time()
    node.publish("properties", b"1", headers=headers, expiration="60000", priority=9, **sent)
    view = waiting(server, "properties")
    print(f"  {json.dumps(view)}", flush=True)
    metadata = view.get("metadata") or {}
    for name, value in sent.items():
        check(f"metadata {name}", metadata.get(name) == str(value), metadata)
    check("the message's id is the key", view.get("key") == "message-1", view)
    check("the priority", view.get("priority") == 9, view)
    check("the expiration", abs(view.get("expires", 0) - now - 60) < 5, view)
    check("all metadata are strings", all(isinstance(value, str) for value in metadata.values()), metadata)
    for name, value in (("text", "é"), ("yes", "true"), ("no", "false"), ("small", "1"), ("large", str(-(1 << 60))),
                        ("time", "1700000000"), ("nothing", "null"), ("empty", "{}"),
                        *((name, str(number)) for name, _, number in NUMBERS)):
        check(f"the header {name}", metadata.get(f"header.{name}") == value, metadata.get(f"header.{name}"))
    for name in ("table", "array"):
        check(f"the header {name}", json.loads(metadata.get(f"header.{name}") or "0") == headers[name], metadata)
    check("the header decimal", "3.14", metadata.get("header.decimal"))
    server.take("properties", 1)
    odd = {"": "no name", "x" * 255: 1, "control\n": "\x00", "bad": Field(b"S\0\0\0\1\xff")}
    node.publish("properties", b"odd", headers=odd)
    view = server.take_one("properties")
    check("headers with odd names and values", "odd", view["content"])
    print(f"  {json.dumps(view.get('metadata'))}", flush=True)

    node.publish("properties", b"1", priority=255)
    check("a priority that is too high", waiting(server, "properties").get("priority") == 127, "")
    server.take("properties", 1)
    # To RabbitMQ, 0 means: only if a consumer can have it at once. This one can.
    node.publish("properties", b"at once", expiration="0")
    check("an expiration of 0", "at once", server.take_one("properties")["content"])
    node.publish("properties", b"bytes", message_id=b"\xff\xfe")
    check("an id that is not text", "bytes", waiting(server, "properties").get("content"))
    server.take("properties", 1)
    node.publish("properties", b"again", message_id="message-1")
    node.publish("properties", b"other", message_id="message-2", headers={"h": "x" * 100_000, "i": "y"})
    view = server.take_one("properties")
    check("an id that was seen already is no new task", view["content"] == "other", view)
    check("headers that do not fit are left out", "header.h" not in view["metadata"], str(view)[:300])
    check("they are counted", view["metadata"].get("headers_left_out") == "1", str(view)[:300])
    check("the others stay", view["metadata"].get("header.i") == "y", str(view)[:300])
    check("the duplicate is counted", server.source("properties")["duplicates"] == 1, server.source("properties"))
    # The library reads nested fields recursively, and any producer chooses their depth.
    nested = b""
    for _ in range(25_000):
        nested = b"A" + struct.pack(">I", len(nested)) + nested
    small = Emq(under=("prlimit", "--stack=1048576"))
    small.add("properties", node.url(), into="deep")
    server.call("POST", "/source/properties/pause")
    node.publish("properties", b"deep", headers={"nested": Field(nested)})
    check("fields that are nested 25,000 deep, with a small stack", "deep", small.take_one("deep")["content"])
    small.stop()
    server.call("POST", "/source/properties/resume")
    # From an exchange, with another routing key.
    channel = node.channel()
    channel.exchange_declare("events", "topic")
    channel.queue_bind("properties", "events", "a.#")
    channel.basic_publish("events", "a.b", b"1")
    channel.connection.close()
    metadata = server.take_one("properties").get("metadata") or {}
    check("the exchange", metadata.get("exchange") == "events", metadata)
    check("the routing key", metadata.get("routing_key") == "a.b", metadata)
    server.stop()


def sizes(node):
    part("64 MiB, and messages of many frames")
    node.declare("sizes")
    server = Emq("--max-memory", "1G")
    server.add("sizes", node.url())
    # Around the size of a frame, which is 128 KiB, and larger ones.
    bodies = ["a" * size for size in (1, 131_063, 131_064, 131_065, 131_072, 262_144, 4_000_000)]
    node.publish("sizes", *bodies)
    views = server.take("sizes", len(bodies))
    check("their contents", [view["content"] for view in views] == bodies, "")
    node.publish("sizes", "b" * (64 << 20))
    eventually(lambda: server.tasks("sizes") or server.source("sizes").get("last_error"), 60)
    print(f"  64 MiB: {server.source('sizes')}", flush=True)
    views = server.take("sizes", 1)
    check("64 MiB", views and len(views[0]["content"]) == 64 << 20, "")
    node.publish("sizes", "after")
    check("the message after it", "after", server.take_one("sizes")["content"])
    server.stop()


def kinds_of_queues(node):
    part("queues that were declared with other arguments")
    arguments = {
        "x-max-priority": {"x-max-priority": 10},
        "x-message-ttl": {"x-message-ttl": 3_600_000},
        "lazy": {"x-queue-mode": "lazy"},
        "quorum": {"x-queue-type": "quorum"},
        "limited": {"x-max-length": 1000, "x-overflow": "reject-publish"},
        "single": {"x-single-active-consumer": True},
        "dead": {"x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "after-death"},
    }
    for name, value in arguments.items():
        node.declare(name, arguments=value)
    node.declare("transient", durable=False)
    node.declare("ends", durable=True, auto_delete=True)
    node.declare("after-death")
    server = Emq()
    names = [name for name in (*arguments, "transient", "ends", "after-death") if name != "dead"]
    channel = node.channel()
    for priority in (1, 5, 3):
        channel.basic_publish("", "x-max-priority", str(priority), pika.BasicProperties(priority=priority))
    channel.connection.close()
    node.publish("dead", b"dies")
    for name in names:
        server.add(name, node.url())
    for name in names:
        server.until(name, "consuming")
        if name not in ("x-max-priority", "after-death"):
            node.publish(name, name)
            check(f"a message of {name}", name, server.take_one(name)["content"])
    contents = [view["content"] for view in server.take("x-max-priority", 3)]
    check("the order of priorities", contents == [5, 3, 1], contents)
    view = server.take_one("after-death")
    check("a dead-lettered message's story", "expired", (view.get("metadata") or {}).get("header.x-death"))
    server.stop()


def deleted_queue(node):
    part("a queue that is deleted while it is consumed")
    node.declare("deleted")
    server = Emq()
    server.add("deleted", node.url())
    server.until("deleted", "consuming")
    channel = node.channel()
    channel.queue_delete("deleted")
    server.until_error("deleted", "deleted")
    check("it tries again", server.source("deleted")["state"] in ("retrying", "connecting"), server.source("deleted"))
    channel.queue_declare("deleted", durable=True)
    channel.basic_publish("", "deleted", b"again")
    channel.connection.close()
    server.until_tasks("deleted", 1, 40)
    server.until("deleted", "consuming")
    server.stop()


def many_sources(node):
    part("a hundred sources")
    names = [f"many-{number}" for number in range(100)]
    node.declare(*names)
    server = Emq()
    # What the first source leaves behind stays, such as a resolver's files.
    server.add("first", node.url(), queue="many-0", into="elsewhere")
    server.until("first", "consuming")
    threads = server.threads()
    server.call("DELETE", "/source/first")
    eventually(lambda: server.threads() < threads)
    threads, descriptors = server.threads(), server.descriptors()
    for name in names:
        status, answer = server.call("PUT", f"/source/{name}", {"amqp": node.url(), "queue": name, "into": "many"})
        check("PUT", status == 201, answer)
    check("one more is too many", server.call("PUT", "/source/more", {"amqp": node.url(), "queue": "x"})[0] == 503, "")
    channel = node.channel()
    for name in names:
        for number in range(20):
            channel.basic_publish("", name, f"{name} {number}")
    channel.connection.close()
    eventually(lambda: server.tasks("many") == 2000, 60)
    contents = {view["content"] for view in server.take("many", 2000)}
    check("all messages", len(contents) == 2000, len(contents))
    check("all consume", [view["state"] for view in server.call("GET", "/stats/")[1]["sources"].values()] ==
          ["consuming"] * 100, "")
    print(f"  {server.threads()} threads, {server.descriptors()} descriptors, {server.resident() >> 20} MB", flush=True)
    for name in names:
        server.call("DELETE", f"/source/{name}")
    eventually(lambda: server.threads() <= threads and server.descriptors() <= descriptors)
    check("all threads end", server.threads() <= threads, f"{server.threads()}, {threads} before")
    check("all descriptors are closed", server.descriptors() <= descriptors, f"{server.descriptors()}, {descriptors}")
    server.stop()


def with_tls(node):
    part("many messages over TLS")
    from tls_test.peers import pem
    node.declare("secure")
    server = Emq("--tls-ca", pem("authority"))
    server.add("secure", node.url(node.secure_port, scheme="amqps"))
    persistent = pika.BasicProperties(delivery_mode=2)
    bodies = [f"message {number} " + "x" * (number % 3000) for number in range(5000)] + ["y" * 8_000_000]
    node.publish_many("secure", [(body, persistent) for body in bodies])
    views = server.take("secure", len(bodies), 60)
    check("they come unchanged and in order", [view["content"] for view in views] == bodies, "")
    server.stop()
