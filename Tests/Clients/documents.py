"""The documents of legacy systems from beginning to end, with curl as the client. `run` calls this with a system and the
address at which emq replaces it.

    documents.py SYSTEM URL
"""

import gzip
import http.server
import json
import queue
import re
import subprocess
import sys
import threading
import time


class Receiver:
    """Takes requests of the system, and answers each as `answers` says for its path."""

    def __init__(self):
        self.received = queue.Queue()
        self.answers = {}
        # How many seconds the answer to a POST takes.
        self.delays = {}
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.headers.method = self.command
                receiver.received.put((self.path, self.headers, body))
                if self.command == "POST":
                    time.sleep(receiver.delays.get(self.path, 0))
                status, answer = receiver.answers.get(self.path, (200, b""))
                self.send_response(status)
                if "gzip" in self.headers.get("Accept-Encoding", ""):
                    answer = gzip.compress(answer)
                    self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *arguments):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"

    def take(self, as_json=True):
        """The path, the fields with the method, and the body of the next request."""
        path, fields, body = self.received.get(timeout=10)
        return path, fields, json.loads(body) if as_json and body else body


def curl(method, url, body=None, options=()):
    """The status, the Content-Type and the body of the answer. curl sends a body as a form, as the documents' users do."""
    command = ["curl", "-sS", "-X", method, *options, "-w", "\n%{http_code} %{content_type}", url]
    output = subprocess.run(command + (["-d", body] if body else []), check=True, capture_output=True, text=True).stdout
    text, _, last = output.rpartition("\n")
    status, _, kind = last.partition(" ")
    return int(status), kind, text


def expect(what, wanted, got):
    if wanted != got:
        raise AssertionError(f"{what}: wanted {wanted!r}, got {got!r}")


def eventually(what, wanted, get):
    for _ in range(100):
        if get() == wanted:
            return
        time.sleep(0.1)
    expect(what, wanted, get())


def httpqueue(url):
    receiver = Receiver()

    def ask(path, body):
        status, kind, text = curl("POST", url + path, json.dumps(body))
        if text:
            expect(f"the type of {path}", "text/plain; charset=utf-8", kind)
        return status, text

    def create(path, **more):
        task = {"topic": "order", "delay": 15, "retry": 3, "callback": receiver.url + path, "content": "hello"}
        status, text = ask("/create", {**task, **more})
        expect("create", 200, status)
        return json.loads(text)["id"]

    before = int(time.time())
    identifier = create("/success", delay=1)
    status, text = ask("/query", {"id": identifier})
    task = json.loads(text)
    expect("the time of the creation", True, before <= task["creat_time"] <= time.time())
    wanted = {
        "id": identifier, "topic": "order", "execute_time": task["creat_time"] + 1, "max_retry": 3, "has_retry": 0,
        "callback": receiver.url + "/success", "content": "hello", "creat_time": task["creat_time"]}
    expect("query", wanted, task)
    receiver.answers["/success"] = 200, b'{\n    "code":100\n}\n'
    path, fields, body = receiver.take()
    expect("the callback's path", "/success", path)
    expect("the callback's body", {"id": identifier, "topic": "order", "content": "hello"}, body)
    expect("the callback's type", "application/json", fields["Content-Type"])
    expect("the callback's client", "Go-http-client/1.1", fields["User-Agent"])
    eventually("a task that is done", 404, lambda: ask("/query", {"id": identifier})[0])

    receiver.answers["/busy"] = 200, b'{"code":101}'
    identifier = create("/busy", delay=0)
    created = json.loads(ask("/query", {"id": identifier})[1])
    receiver.take()
    eventually("a failed attempt", 1, lambda: json.loads(ask("/query", {"id": identifier})[1])["has_retry"])
    wanted = {**created, "has_retry": 1}
    expect("a task that is retried", wanted, json.loads(ask("/query", {"id": identifier})[1]))
    expect("delete", (200, ""), ask("/delete", {"id": identifier}))
    expect("query a deleted task", 404, ask("/query", {"id": identifier})[0])
    expect("an invalid request", 400, curl("POST", url + "/create", "{")[0])
    expect("a GET", 400, curl("GET", url + "/create")[0])


def delay_tasks(url):
    receiver = Receiver()

    def ask(method, path, body=None):
        status, kind, text = curl(method, url + path, json.dumps(body) if body else None)
        expect(f"the type of {method} {path}", "application/json;charset=UTF-8", kind)
        expect(f"the line feed of {method} {path}", "\n", text[-1:])
        answer = json.loads(text)
        expect(f"the code of {method} {path}", status, answer["code"])
        return answer

    def call(path, key, params, in_advance):
        got, fields, body = receiver.take()
        expect("the handler's path", path, got)
        expect("the handler's body", {"cate": "mail", "key": key, "params": params, "inAdvance": in_advance}, body)
        expect("the handler's type", "application/json; charset=UTF-8", fields["Content-Type"])
        expect("the handler's client", "Go-http-client/1.1", fields["User-Agent"])

    fine = {"code": 200, "msg": "OK"}
    handler = receiver.url + "/handler"
    # Whatever its status, a response means success.
    receiver.answers["/handler"] = 500, b"out of order"
    expect("register a handler", fine, ask("POST", "/handler/mail", {"handler": handler}))

    soon = int(time.time()) + 2
    key = 2**64 - 1
    for params in ({"old": True}, {"to": ["a@b"], "n": 1.5}):
        task = {"timestamp": soon, "key": key, "params": params, "handler": ""}
        expect("create or update", fine, ask("POST", "/task/mail", task))
    for path in (f"/task/mail/{key}", f"/task/mail/{key}?timestamp={soon}", f"/task/mail/{key}?timestamp=-1"):
        result = {"timeToRun": soon, "params": params, "handler": handler}
        expect(f"get {path}", {**fine, "result": result}, ask("GET", path))
    call("/handler", key, params, False)
    expect("the time of the call", True, time.time() >= soon)
    eventually("a task that is done", 404, lambda: ask("GET", f"/task/mail/{key}")["code"])

    later = int(time.time()) + 1000
    for key, path in ((1, "/own"), (2, "")):
        task = {"timestamp": later, "key": key, "params": key, "handler": path and receiver.url + path}
        expect("create", fine, ask("POST", "/task/mail", task))
    status, _, text = curl("GET", url + "/tasks")
    expect("the list", (200, True, True), (status, "key 1" in text, "key 2" in text))
    expect("remove", fine, ask("DELETE", "/task/mail", {"timestamp": later, "key": 2, "exec": False}))
    expect("remove and run", fine, ask("DELETE", "/task/mail", {"timestamp": later, "key": 1, "exec": True}))
    call("/own", 1, 1, True)
    for key in (0, 1, 2):
        expect("a removed task", 404, ask("GET", f"/task/mail/{key}")["code"])
    expect("key 0", 400, ask("POST", "/task/mail", {"timestamp": later, "key": 0})["code"])
    expect("health", (200, "text/plain;charset=UTF-8", "OK\n"), curl("GET", url + "/health"))
    expect("no further call", True, receiver.received.empty())


def htq(url):
    """The tutorial; the receiver stands for httpbin.org and for the service that can be cancelled."""
    receiver = Receiver()

    def ask(method, address, body=None, status=200, kind="application/json"):
        fields = ["-H", "Content-Type: application/json"]
        got, got_kind, text = curl(method, address, body and json.dumps(body), fields)
        expect(f"{method} {address}", (status, kind), (got, got_kind))
        return json.loads(text) if kind == "application/json" and status == 200 else text

    def send(**request):
        command = ["curl", "-sS", "-i", "-H", "Content-Type: application/json", url, "-d", json.dumps(request)]
        head = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        expect("the status of a POST", True, head.startswith("HTTP/1.1 303 "))
        return re.search(r"(?m)^Location: (.*?)\r?$", head)[1]

    def status(address):
        return ask("GET", address + "status/")["status"]

    origin = b'{\n  "origin": "159.14.243.254"\n}'
    receiver.answers["/ip"] = 200, origin
    before = time.time()
    address = send(url=receiver.url + "/ip")
    uuid = re.fullmatch(re.escape(url) + r"/([-0-9a-f]{36})/", address)[1]
    expect("the request's method", "GET", receiver.take()[1].method)
    response = ask("GET", address + "response/")
    expect("the response", ("success", 200, "OK", uuid, origin.decode()), tuple(
        response[name] for name in ("status", "code", "reason", "uuid", "data")))
    expect("its time", True, before * 1000 - 1 <= response["time"] <= time.time() * 1000)
    expect("its headers", True, "Content-Length" in response["headers"])
    expect("the status", "success", status(address))
    request = ask("GET", address)
    wanted = {
        "timeout": 60, "status": "success", "data": None, "headers": {}, "url": receiver.url + "/ip", "method": "get",
        "uuid": uuid, "time": request["time"], "id": "None"}
    expect("the request", wanted, request)

    # A service that takes its time is told when the request is cancelled.
    receiver.delays["/delay/30"] = 30
    headers = {"X-Job": "7"}
    statement = {"statement": "select 1", "parameters": None}
    address = send(url=receiver.url + "/delay/30", data=statement, headers=headers, timeout="40", id="job")
    path, fields, body = receiver.take(as_json=False)
    expect("the request", ("/delay/30", "POST", "7"), (path, fields.method, fields["X-Job"]))
    expect("an object as data", b"{'statement': 'select 1', 'parameters': None}", body)
    expect("the status in flight", "pending", status(address))
    expect("the list", [], ask("GET", url + "/"))
    ask("DELETE", address, None, 204, "text/html; charset=utf-8")
    path, fields, body = receiver.take(as_json=False)
    expect("the notice", ("/delay/30", "DELETE", "7", b""), (path, fields.method, fields["X-Job"], body))
    expect("the status", "canceled", status(address))
    expect("the response of a cancelled request", {}, ask("GET", address + "response/"))
    expect("its id", "job", ask("GET", address)["id"])

    # A response is deleted, and an error is a response too.
    address = send(url="foo", method="put")
    wanted = "Invalid URL 'foo': No schema supplied. Perhaps you meant http://foo?"
    expect("the error", wanted, ask("GET", address + "response/")["message"])
    expect("the status", "error", status(address))
    for wanted in (204, 404):
        kind = "text/html; charset=utf-8" if wanted == 204 else "application/json"
        ask("DELETE", address + "response/", None, wanted, kind)
    expect("a deleted response", {}, ask("GET", address + "response/"))
    ask("GET", f"{url}/{uuid[:-12]}{12 * '0'}/", None, 404)
    ask("POST", url + "/", {"method": "get"}, 422)
    ask("GET", address[:-1], None, 301, "text/html; charset=utf-8")
    ask("OPTIONS", address, None, 200, "text/html; charset=utf-8")
    expect("no further request", True, receiver.received.empty())


def own(method, url, body=None):
    """The body of the answer to a request of JSON, with status 200."""
    status, kind, text = curl(method, url, body and json.dumps(body), ["-H", "Content-Type: application/json"])
    expect(f"{method} {url}: {text}", (200, "application/json"), (status, kind))
    return json.loads(text)


def emq(url):
    def enqueue(name, **fields):
        own("POST", f"{url}/enqueue/{name}", fields)

    def wait(*queues, **fields):
        tasks = own("POST", f"{url}/wait/", {"queues": queues, **fields})
        return [task and (task["id"], task["content"]) for task in tasks]

    def peek(name, n):
        return [task["content"] for task in own("GET", f"{url}/peek/{name}?n={n}")]

    enqueue("mail", content={"to": "a@b"}, retry=1, expiry=60)
    enqueue("mail", content=2)
    enqueue("gone", content=3, expiry=0)
    expect("peek", [[{"to": "a@b"}], [{"to": "a@b"}, 2], []], [peek("mail", 1), peek("mail", 9), peek("mail", 0)])
    expect("queues", True, "mail" in own("GET", f"{url}/queues/"))
    first, second, none, empty = wait("mail", "mail", "mail", "gone", timeout=1)
    expect("wait", ({"to": "a@b"}, 2, None, None), (first[1], second[1], none, empty))
    enqueue("mail", content=4)
    own("POST", f"{url}/nak/", {"ids": [second[0]]})
    expect("a refused task is at the back", [4, 2], peek("mail", 9))
    eventually("a lease that ran out", [4, 2, {"to": "a@b"}], lambda: peek("mail", 9))
    own("POST", f"{url}/ack/", {"ids": [first[0]]})
    expect("an ack after the lease", 3, len(peek("mail", 9)))
    tasks = wait("mail", "mail", "mail")
    expect("wait without a timeout", [4, 2, {"to": "a@b"}], [task[1] for task in tasks])
    own("POST", f"{url}/ack/", {"ids": [task[0] for task in tasks]})
    expect("queues without tasks", False, "mail" in own("GET", f"{url}/queues/"))
    expect("a wait for nothing", [], wait(timeout=60000))
    expect("an ack of nothing", {"acked": 0, "missing": []}, own("POST", f"{url}/ack/", {"ids": None}))


def taskqueue(url):
    receiver = Receiver()
    receiver.answers["/tasks/my_fun_task"] = 201, b""
    message = {"url": f"{receiver.url}/tasks/my_fun_task", "countdown": 1, "max_retries": 3, "payload": "{\"a\": 1}",
               "roll_back": f"{receiver.url}/tasks/undo", "eta": 0, "expires": 0, "queue": "Queue3", "metadata": {"x": 1}}
    start = time.time()
    own("POST", f"{url}/enqueue/Queue1", {"content": message})
    for path in ["/tasks/my_fun_task"] * 3 + ["/tasks/undo"]:
        got, fields, body = receiver.take()
        expect("the request", (path, "application/json", {"a": 1}), (got, fields["Content-Type"], body))
    expect("the countdown", True, time.time() >= start + 1)
    eventually("the end of the roll_back", 1, lambda: own("GET", f"{url}/stats/Queue3")["totals"]["acked"])
    own("POST", f"{url}/enqueue/Queue3", {"content": {**message, "countdown": 0, "expires": int(start)}})
    eventually("a message that expired", 1, lambda: own("GET", f"{url}/stats/Queue3")["totals"]["expired"])
    expect("no further request", True, receiver.received.empty())


systems = {"httpqueue": httpqueue, "delay-tasks": delay_tasks, "htq": htq, "emq": emq, "taskqueue": taskqueue}
systems[sys.argv[1]](sys.argv[2])
