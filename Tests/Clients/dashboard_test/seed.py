"""A server as a company would have it: 10,000 queues, a million tasks in all states, and what happened in the last hour."""

import math
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import hostile
from server import Client, Clock, Emq, quote

QUEUES = 10_000
TASKS = 1_000_000
# The queues in which something happens all the time: tasks a second, and the share that fails.
LIVE = {
    "mail/eu/outbound": (9, 0.01), "mail/eu/inbound": (2, 0), "mail/us/outbound": (7, 0.01), "mail/us/inbound": (2, 0),
    "orders/checkout": (4, 0), "orders/payments": (3, 0.03), "orders/shipping": (2, 0), "orders/refunds": (0.3, 0),
    "images/thumbnails": (6, 0), "images/originals": (2, 0.02), "video/transcode": (0.8, 0.05), "search/index": (8, 0),
    "sms/eu": (1.5, 0.01), "sms/us": (1.5, 0.01), "invoices/pdf": (1, 0), "crm/sync": (0.7, 0.1), "fraud/score": (3, 0),
    "exports/csv": (0.3, 0), "notifications/ios": (4, 0), "notifications/android": (5, 0),
}
KINDS = "mail", "exports", "imports", "sync", "invoices", "backups", "thumbnails", "audit", "webhooks", "reports"
# A kind of error, by the queue whose tasks die of it, and how many do.
DEATHS = [
    ("mail/eu/outbound", "550 no such user here", 2400),
    ("mail/eu/outbound", "connection refused: smtp-eu-3.internal:25", 1250),
    ("mail/us/outbound", "550 no such user here", 800),
    ("orders/payments", "HTTP 503 from https://payments.example.com/v2/charges", 640),
    ("orders/payments", "card declined", 310),
    ("video/transcode", "ffmpeg: unsupported codec av1\n  in stream 0\n  exit status 187", 95),
    ("video/transcode", "out of memory: the encoder was killed", 12),
    ("crm/sync", "KeyError: 'customer_id'\nTraceback (most recent call last):\n  File \"sync.py\", line 81", 420),
    ("crm/sync", "rate limit of api.crm.example.com: retry in 60 s", 77),
    ("images/originals", "", 33),
    ("sms/eu", "number is not in service", 154),
]
TRACE = ("X-Request-Id: checkout-7f3a91\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n")
CONTENTS = {
    "mail": '{"to":"user%d@example.org","template":"welcome","locale":"de-DE"}',
    "orders": '{"order":%d,"customer":"C-20417","total":"129.90","currency":"EUR"}',
    "video": '{"source":"s3://videos/raw/%d.mov","profiles":["1080p","720p","480p"]}',
    "search": '{"document":%d,"operation":"upsert"}',
    "images": '{"image":"s3://images/%d.jpg","width":320,"height":240}',
}


def tasks(queue, count, fields="", first=1):
    """The body that enqueues so many tasks. `fields` are further fields of each."""
    template = '{"content":' + CONTENTS.get(queue.split("/")[0], '{"number":%d}') + fields + "}"
    return ("[" + ",".join([template % number for number in range(first, first + count)]) + "]").encode()


def tenants(count):
    for tenant in range(1, count // len(KINDS) + 2):
        for kind in KINDS:
            yield f"tenants/{tenant:04}/{kind}"


class Receiver(BaseHTTPRequestHandler):
    """Accepts some of the tasks that are pushed to it, and fails with the others."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        text = b"accepted" if self.path == "/acme" else b"the database is down for maintenance"
        self.send_response(200 if self.path == "/acme" else 503)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class World:
    """A server on which a company's services rely. Afterwards, `marked` has the ids of tasks that the scenes need."""

    def __init__(self, path, workers=3):
        self.workers, self.random, self.marked = workers, random.Random(20), {}
        try:
            self.clock = Clock(24 * 3600)
        except FileNotFoundError:
            self.clock = None
        self.emq = Emq("--data", path, "--fsync", "never", "--push", "loopback", "--max-memory", "8G",
                       clock=self.clock)

    def at(self, hours):
        """Sets the server's clock to so many hours ago."""
        if self.clock:
            self.clock.set(hours * 3600)

    def fill(self):
        began = time.monotonic()
        self.at(20)
        self.configure()
        # By the time at which it comes, so that the tasks have different ages.
        requests = self.backlog()
        rounds = 15
        for number in range(rounds):
            self.at(20 - number * 1.2)
            self.parallel(requests[number::rounds])
            self.die(number, rounds)
        print(f"  a backlog after {time.monotonic() - began:.1f} s", flush=True)
        self.live()
        print(f"  an hour later after {time.monotonic() - began:.1f} s", flush=True)
        self.special()
        return self

    def configure(self):
        client = self.emq.client
        for queue, configuration in {
            "mail/eu/outbound": {"max_retries": 3, "backoff": {"min": 5, "max": 600, "jitter": 0.1}, "retry": 60},
            "orders/payments": {"max_retries": 5, "dead_expiry": 2592000, "keep": 3600},
            "orders/checkout": {"keep": 3600, "max_length": 1000000},
            "video/transcode": {"retry": 7200, "max_retries": 2},
            "reports/daily": {"keep": 604800},
            "crm/sync": {"max_retries": 1},
        }.items():
            client.call("PUT", f"/config/{quote(queue)}", configuration)

    def backlog(self):
        """Requests that fill the queues: the name of a queue, and the body."""
        week = ',"expiry":604800'
        plan = [
            ("video/transcode", 90_000, week), ("mail/eu/outbound", 60_000, f'{week},"delay":90000'),
            ("mail/us/outbound", 40_000, f'{week},"delay":86400'), ("search/index", 60_000, week),
            ("analytics/events", 150_000, week), ("images/originals", 35_000, f'{week},"priority":5'),
            ("reports/monthly", 2_000, f'{week},"delay":200000'),
        ]
        plan += [(f"batch/2026-11-{day:02}", 2_500, f'{week},"delay":{86400 * (31 - day)}') for day in range(1, 31)]
        requests = []
        for queue, count, fields in plan:
            for first in range(0, count, 5000):
                requests.append((queue, count, min(5000, count - first), fields, first))
        left = TASKS - sum(count for _, count, _ in plan)
        names = list(tenants(QUEUES))[:QUEUES - len(plan)]
        # A few tenants have much, most have little.
        weights = [1 / (1 + self.random.randrange(len(names))) ** 0.5 for _ in names]
        total = sum(weights)
        for queue, weight in zip(names, weights):
            count = min(10_000, max(1, round(left * weight / total)))
            delay = 71_980 + self.random.randrange(150_000)
            requests.append((queue, count, count, f'{week},"delay":{delay}', 1))
        self.random.shuffle(requests)
        return requests

    def parallel(self, requests):
        """Sends the requests over several connections."""
        rest, errors = list(requests), []

        def send():
            client = Client(self.emq.port)
            try:
                while rest:
                    queue, _, count, fields, first = rest.pop()
                    client.call("POST", f"/enqueue/{quote(queue)}", tasks(queue, count, fields, first))
            except (IndexError, OSError) as error:
                if not isinstance(error, IndexError):
                    errors.append(error)
            client.close()

        threads = [threading.Thread(target=send) for _ in range(self.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def die(self, number, rounds):
        """Lets a part of the tasks die that have died until now."""
        client = self.emq.client
        for queue, error, count in DEATHS:
            # Some kinds of errors began lately, and some have ended.
            first, last = hash_of(error) % (rounds // 2), rounds - hash_of(error + "end") % 5
            part = count // (last - first) + 1
            if not first <= number < last:
                continue
            family = queue.split("/")[0]
            client.call("POST", f"/enqueue/{quote(queue)}",
                        tasks(queue, part, ',"priority":100,"max_retries":2,"backoff":0,"expiry":1000000'))
            for attempt in range(3):
                wait = {"queues": [queue], "max": part, "worker": f"{family}-{1 + attempt}"}
                taken = client.call("POST", "/wait/", wait)
                refusal = {"ids": [task["receipt"] for task in taken]} | ({"error": error} if error else {})
                client.call("POST", "/nak/", refusal)

    def rate(self, queue, hours):
        """How many tasks a second there were so many hours ago."""
        base = LIVE[queue][0]
        phase = hash_of(queue) % 60
        wave = 1 + 0.35 * math.sin(2 * math.pi * (hours * 60 + phase) / 37) + self.random.uniform(-0.12, 0.12)
        return base * wave

    def live(self):
        """The last hour, in steps of 20 s: producers, workers, and troubles that are over."""
        client, step = self.emq.client, 20
        for number in range(65 * 60 // step):
            hours = (65 * 60 - number * step) / 3600
            self.at(hours)
            # Without a clock of its own, the server has only a short past.
            if not self.clock and 20 < number < 180 and number != 45:
                continue
            for queue, (base, failing) in LIVE.items():
                count = self.rate(queue, hours) * step
                count = int(count) + (self.random.random() < count % 1)
                if count:
                    client.call("POST", f"/enqueue/{quote(queue)}", tasks(queue, count, ',"priority":1'))
                # From 32 to 18 minutes ago, no worker took mail; then they worked it off.
                minutes = hours * 60
                if queue == "mail/eu/outbound" and 18 < minutes < 32:
                    continue
                share = 1.6 if queue == "mail/eu/outbound" else 1
                family = queue.split("/")[0]
                wait = {"queues": [queue], "max": max(1, min(1000, int(count * share))),
                        "worker": f"{family}-{1 + number % 4}"}
                taken = [task["receipt"] for task in client.call("POST", "/wait/", wait)]
                if queue == "orders/payments" and 40 < minutes < 47:
                    failing = 0.6
                bad = int(len(taken) * failing + self.random.random())
                if failing and bad:
                    error = next((error for name, error, _ in DEATHS if name == queue and error), "timeout after 30 s")
                    client.call("POST", "/nak/", {"ids": taken[:bad], "error": error, "delay": 3600})
                    taken = taken[bad:]
                if taken:
                    client.call("POST", "/ack/", {"ids": taken})
            if number % 20 == 7:
                self.hold(client, number // 20)
            self.report(client, int(hours * 180 + 0.5))
        self.at(0)

    def report(self, client, steps):
        """A task whose first attempts fail. `steps` is how many steps ago it is."""
        wait = {"queues": ["audit/reports"], "max": 1, "retry": 14400}
        if not self.clock and steps not in (150, 12):
            return
        if steps == 150:
            self.marked["report"] = client.call("POST", "/enqueue/audit%2Freports", {
                "content": {"month": "2026-11", "regions": ["eu", "us"], "format": "pdf"}, "max_retries": 4,
                "backoff": {"min": 600}, "keep": 86400, "key": "report-2026-11",
                "metadata": {"source": "cron", "owner": "finance"}}, TRACE)["id"]
        elif steps in (149, 110):
            client.call("POST", "/wait/", wait | {"worker": f"audit-{1 + steps // 149}"})
        elif steps in (141, 109):
            client.call("POST", "/nak/", {"ids": [self.marked["report"]], "error": {
                141: "the export timed out after 160 s", 109: "HTTP 503 from https://warehouse.example.com/query"}[steps]})
        elif steps == 12:
            taken = client.call("POST", "/wait/", wait | {"worker": "audit-1"})
            client.call("POST", "/touch/", {"ids": [taken[0]["receipt"]], "progress": {"rows": 48210000, "percent": 62}})

    def hold(self, client, number):
        """A worker takes a video, and has it still."""
        wait = {"queues": ["video/transcode"], "max": 1 + number % 3, "worker": f"encoder-{number + 1}", "retry": 14400}
        taken = client.call("POST", "/wait/", wait)
        client.call("POST", "/touch/", {"ids": [taken[0]["receipt"]],
                                        "progress": {"percent": 10 + 7 * number, "pass": 1, "speed": "1.8x"}})

    def special(self):
        """Tasks that the scenes look at, paused queues, and a receiver that fails."""
        client, marked = self.emq.client, self.marked
        client.call("POST", "/pause/analytics%2Fevents")
        client.call("POST", "/pause/batch%2F2026-11-30")
        numbers = '{"id":9007199254740993,"huge":1e400,"exact":0.1000000000000000055511151231257827,"minus":-0}'
        body = f'{{"content":{numbers},"max_retries":4,"backoff":0,"keep":86400,"key":"order-20417",' \
               '"metadata":{"source":"checkout","region":"eu-central"}}'
        marked["numbers"] = client.call("POST", "/enqueue/orders%2Fcheckout", body.encode(), TRACE)["id"]
        client.call("POST", "/enqueue/reports%2Fdaily", [{"content": {"day": day}} for day in range(1, 31)])
        taken = client.call("POST", "/wait/", {"queues": ["reports/daily"], "max": 28, "worker": "reports-1"})
        client.call("POST", "/ack/", {"tasks": [{"id": task["receipt"], "result": {"pages": 12, "bytes": 88_120}}
                                                for task in taken]})
        client.call("POST", "/enqueue/reports%2Fdaily", {"content": None, "expiry": 0, "keep": 3600})
        client.call("DELETE", f"/task/{client.call('GET', '/peek/reports%2Fdaily')[0]['id']}")
        self.push(client)
        hostile_task(self.emq, marked)

    def end(self):
        self.receiver.shutdown()
        self.emq.finish()

    def push(self, client):
        """Two receivers: one that works, and one that fails so often that its circuit is open."""
        self.receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=self.receiver.serve_forever, daemon=True).start()
        for name in "acme", "globex":
            url = f"http://127.0.0.1:{self.receiver.server_port}/{name}"
            client.call("PUT", f"/config/webhooks%2F{name}", {"keep": 3600, "max_retries": 8, "push": {
                "url": url, "rate": "5/s", "concurrency": 2, "secret": "a long random text",
                "circuit": {"failures": 5, "pause": 3600}}})
            client.call("POST", f"/enqueue/webhooks%2F{name}", tasks("webhooks", 60))


def hostile_task(emq, marked):
    """Hostile tasks: one that waits, one that a worker holds, and one that is dead."""
    queue = quote(hostile.QUEUE)
    body = {"content": hostile.CONTENT, "key": hostile.KEY, "metadata": hostile.METADATA, "max_retries": 0}
    for state in "held", "dead", "ready":
        emq.call("POST", f"/enqueue/{queue}", body | {"key": f"{state} {hostile.KEY}"})
        if state == "ready":
            break
        taken = emq.take(hostile.QUEUE, worker=hostile.WORKER)
        if state == "dead":
            emq.call("POST", "/nak/", {"ids": [taken[0]["receipt"]], "error": hostile.ERROR})
        else:
            emq.call("POST", "/touch/", {"ids": [taken[0]["receipt"]], "retry": 7200, "progress": hostile.CONTENT})
        marked[f"hostile {state}"] = taken[0]["id"]
    marked["hostile ready"] = emq.call("GET", f"/peek/{queue}")[0]["id"]
    emq.call("POST", f"/enqueue/{queue}", f'{{"content":{hostile.nested(400)}}}'.encode())


def hash_of(text):
    """A number that is the same in each run, unlike hash()."""
    return sum(ord(character) * place for place, character in enumerate(text, 1))


class Traffic:
    """Producers and workers that go on until they are stopped."""

    def __init__(self, emq):
        self.emq, self.is_ending, self.random = emq, threading.Event(), random.Random(21)
        self.threads = [threading.Thread(target=self.run, args=(self.produce,), daemon=True)]
        for number, queue in enumerate(LIVE):
            name = f"{queue.split('/')[0]}-{1 + number % 4}"
            self.threads.append(threading.Thread(target=self.run, args=(self.work, queue, name), daemon=True))
        for thread in self.threads:
            thread.start()

    def run(self, action, *arguments):
        client = Client(self.emq.port)
        while not self.is_ending.is_set():
            try:
                action(client, *arguments)
            except OSError:
                # The server is being killed.
                self.is_ending.wait(0.2)
        client.close()

    def produce(self, client):
        for queue, (rate, _) in LIVE.items():
            count = rate * 0.5
            count = int(count) + (self.random.random() < count % 1)
            if count:
                client.call("POST", f"/enqueue/{quote(queue)}", tasks(queue, count, ',"priority":1'))
        self.is_ending.wait(0.5)

    def work(self, client, queue, name):
        # A worker does a little more than comes, so that a backlog shrinks slowly.
        most = max(1, round(LIVE[queue][0] * 0.4))
        taken = client.call("POST", "/wait/", {"queues": [queue], "max": most, "timeout": 2000, "worker": name})
        self.is_ending.wait(most / LIVE[queue][0] * (0.5 + 0.6 * self.random.random()))
        bad = self.random.random() < LIVE[queue][1] and taken
        ids = [task["receipt"] for task in taken]
        if bad:
            client.call("POST", "/nak/", {"ids": ids[:1], "error": "timeout after 30 s", "delay": 600})
            ids = ids[1:]
        if ids:
            client.call("POST", "/ack/", {"ids": ids})

    def stop(self):
        self.is_ending.set()
        for thread in self.threads:
            thread.join()
