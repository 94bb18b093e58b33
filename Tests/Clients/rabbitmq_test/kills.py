"""Messages published with confirms, while RabbitMQ and emq are killed in turn."""

import collections
import http.client
import random
import subprocess
import threading
import time

import pika

from durable import Broken
from rabbitmq_test.node import Publisher
from rabbitmq_test.program import Emq, directory
from tls_test import peers
from tls_test.peers import check, eventually, part

BATCH = 5000


class Worker:
    """Takes and acknowledges tasks, whatever happens to the server. `server` is the one that runs now."""

    def __init__(self, queue):
        self.queue = queue
        self.server = None
        # How often each task was acknowledged, and the ids of the tasks of each message.
        self.done = collections.Counter()
        self.ids = collections.defaultdict(set)
        self.dispatches = 0
        self.failure = None
        self.is_over = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        held = {}
        while not self.is_over:
            try:
                server = self.server
                if server is None:
                    time.sleep(0.02)
                    continue
                views = self.request(server, "/wait/", {"queues": [self.queue], "max": 500, "timeout": 500})
                for view in views or []:
                    self.dispatches += 1
                    self.ids[view["content"]].add(view["id"])
                    held[view["receipt"]] = view["content"]
                if held:
                    missing = set(self.request(server, "/ack/", {"ids": list(held)})["missing"])
                    for receipt, content in held.items():
                        # Missing: the acknowledgement before had no response, or the dispatch was lost.
                        if receipt not in missing:
                            self.done[content] += 1
                    held = {}
            except (OSError, http.client.HTTPException, Unready):
                time.sleep(0.02)
            except Exception as error:
                self.failure = error
                return

    @staticmethod
    def request(server, path, body):
        status, answer = server.call("POST", path, body)
        if status == 503:
            raise Unready
        if status != 200:
            raise Broken(f"{path} was answered {status}: {answer}")
        return answer


class Unready(Exception):
    """The server still recovers."""


def run(node, kills):
    part(f"{BATCH * kills:,} messages, and {kills} kills of RabbitMQ and of emq")
    seed = random.randrange(1 << 32)
    choices = random.Random(seed)
    print(f"  seed {seed}", flush=True)
    node.declare("killed")
    # RabbitMQ confirms a queue before it is on disk.
    node.control("eval", "mnesia:dump_log().")
    # One in ten has no id, so it may come twice.
    has_id = lambda number: number % 10 != 0
    total = BATCH * kills
    messages = [(str(number), pika.BasicProperties(
        delivery_mode=2, message_id=f"killed-{number}" if has_id(number) else None)) for number in range(total)]
    data = directory()
    server = Emq(data=data)
    # A task whose dispatch was lost in a kill is dispatched again soon.
    server.call("PUT", "/config/killed", {"retry": 10})
    server.add("killed", node.url(), unique_for=86400)
    worker = Worker("killed")
    worker.server = server
    publisher = Publisher(node.parameters, "killed", messages, limit=0)

    def restart_emq():
        nonlocal server
        worker.server = None
        server.kill()
        server = Emq(data=data)
        worker.server = server

    def until_confirmed(count):
        if not eventually(lambda: publisher.confirmed >= count or worker.failure, 120) or worker.failure:
            raise RuntimeError(
                f"{publisher.confirmed} of {count} messages were confirmed; {worker.failure!r}; {server.log()}")

    def until_taken(count):
        """Waits until the worker has seen so many more messages: a kill should come while messages are under way."""
        target = min(len(worker.ids) + count, publisher.confirmed)
        if not eventually(lambda: len(worker.ids) >= target or worker.failure, 60):
            source = server.source("killed")
            raise RuntimeError(f"{len(worker.ids)} of {target} messages came; {source}; {server.log()}")

    for round in range(kills):
        publisher.limit = BATCH * (round + 1)
        until_confirmed(BATCH * round + choices.randrange(1, BATCH // 2))
        until_taken(choices.randrange(1, BATCH // 4))
        node.kill()
        node.begin_start()
        if choices.random() < 0.3:
            # emq is killed while RabbitMQ is absent, too.
            restart_emq()
        node.until_ready()
        until_confirmed(BATCH * round + choices.randrange(BATCH // 2, BATCH))
        until_taken(choices.randrange(1, BATCH // 2))
        # Somewhere between taking and acknowledging.
        time.sleep(choices.random() * 0.05)
        restart_emq()
        print(f"  round {round + 1}: {publisher.confirmed:,} confirmed, {sum(worker.done.values()):,} done, "
              f"{publisher.again:,} published again", flush=True)
    publisher.join()
    eventually(lambda: len(worker.ids) == total and server.tasks("killed") == 0 or worker.failure, 120)
    eventually(lambda: node.counts("killed")[:2] == (0, 0), 30)
    check("every message had a queue", publisher.returned == 0, publisher.returned)
    check("the worker", worker.failure is None, repr(worker.failure))
    # An acknowledgement without a response: the task is done, but the worker does not know.
    seen = set(worker.ids)
    missing = [number for number in range(total) if number not in seen]
    check("every message came", not missing, f"{len(missing)}: {missing[:20]}; {server.source('killed')}")
    twice = {number: ids for number, ids in worker.ids.items() if has_id(number) and len(ids) > 1}
    check("no message with an id became two tasks", not twice, f"{len(twice)}: {list(twice.items())[:5]}")
    again = [number for number in range(total) if has_id(number) and worker.done[number] > 1]
    check("none was done twice", not again, f"{len(again)}: {again[:5]}")
    check("nothing is left in RabbitMQ", node.counts("killed")[:2] == (0, 0), node.counts("killed"))
    eventually(lambda: server.tasks("killed") == 0)
    check("nothing is left in emq", server.tasks("killed") == 0, server.tasks("killed"))
    plain = sum(len(ids) - 1 for number, ids in worker.ids.items() if not has_id(number))
    source = server.source("killed")
    print(f"  {publisher.connections} connections of the publisher, {publisher.published:,} messages published, "
          f"{plain} without an id came twice, {source.get('duplicates')} duplicates since the last start", flush=True)
    worker.is_over = True
    worker.thread.join()
    server.stop()
    result = subprocess.run([peers.emq, "journal", "check", data], capture_output=True, text=True)
    check("the journal", "whole: ", result.stdout + result.stderr)
