"""A destination that takes nothing, little memory, a slow disk: what is not taken stays in RabbitMQ."""

import collections
import random
import shutil
import threading
import time

import pika

from rabbitmq_test.node import Publisher
from rabbitmq_test.program import Emq, directory
from tls_test.peers import check, eventually, part

PERSISTENT = pika.BasicProperties(delivery_mode=2)


def run(node):
    paused(node)
    full(node)
    too_large(node)
    changed(node)
    terminated(node)
    little_memory(node)
    slow_disk(node)


def paused(node):
    part("a paused queue, and a paused source")
    node.declare("paused")
    data = directory()
    server = Emq(data=data)
    server.call("POST", "/pause/paused")
    server.add("paused", node.url())
    node.publish("paused", *map(str, range(50)))
    server.until("paused", "waiting")
    check("a paused queue gets nothing", server.tasks("paused") == 0, server.tasks("paused"))
    ready, open, _ = node.counts("paused")
    check("RabbitMQ keeps the messages", ready + open == 50, (ready, open))
    server.call("POST", "/resume/paused")
    server.take("paused", 50)
    check("it consumes again", "consuming", server.source("paused")["state"])

    check("POST /source/paused/pause", server.call("POST", "/source/paused/pause")[0] == 200, "")
    server.until("paused", "paused")
    node.publish("paused", *map(str, range(10)))
    eventually(lambda: node.counts("paused") == (10, 0, 0))
    check("a paused source takes nothing", node.counts("paused") == (10, 0, 0), node.counts("paused"))
    server.stop()
    server = Emq(data=data)
    server.until("paused", "paused")
    check("it stays paused", node.counts("paused") == (10, 0, 0), node.counts("paused"))
    check("POST /source/paused/resume", server.call("POST", "/source/paused/resume")[0] == 200, "")
    server.take("paused", 10)
    check("DELETE", server.call("DELETE", "/source/paused")[0] == 204, "")
    server.stop()
    server = Emq(data=data)
    check("it stays deleted", server.call("GET", "/source/paused")[0] == 404, "")
    server.stop()


def full(node):
    part("a queue with max_length")
    node.declare("full")
    server = Emq(data=directory())
    server.call("PUT", "/config/full", {"max_length": 100})
    server.add("full", node.url(), prefetch=300)
    node.publish_many("full", [(str(number), PERSISTENT) for number in range(1000)])
    server.until("full", "waiting")
    check("100 tasks", server.tasks("full") == 100, server.tasks("full"))
    ready, open, _ = node.counts("full")
    check("the others stay in RabbitMQ", ready + open == 900, (ready, open))
    check("prefetch holds", open <= 300, open)
    contents = [view["content"] for view in server.take("full", 1000, 30)]
    check("all come, in order", contents == list(range(1000)), contents[:20])
    server.stop()


def too_large(node):
    part("a message that is too large, in a queue with a delivery limit")
    # RabbitMQ drops a message that is given back more than three times.
    node.declare("limited-returns", arguments={"x-queue-type": "quorum", "x-delivery-limit": 3})
    server = Emq("--max-memory", "64M")
    node.publish("limited-returns", *["small"] * 10, "x" * 20_000_000, *["small"] * 10)
    server.add("limited-returns", node.url())
    server.until("limited-returns", "stopped")
    server.until_error("limited-returns", "too large")
    time.sleep(5)
    there = server.tasks("limited-returns") + sum(node.counts("limited-returns")[:2])
    counts = server.tasks("limited-returns"), node.counts("limited-returns")
    check("no message is lost", there >= 21, counts)
    check("those before it are acknowledged", there == 21, counts)
    server.stop()
    server = Emq("--max-memory", "1G")
    server.add("limited-returns", node.url())
    left = node.counts("limited-returns")
    server.until_tasks("limited-returns", sum(left[:2]), 30)
    server.stop()


def changed(node):
    part("sources that are paused, changed and deleted while messages come")
    node.declare("changed")
    count = 10_000
    server = Emq(data=directory())
    server.add("changed", node.url(), unique_for=0)
    publisher = Publisher(node.parameters, "changed", [(str(number), PERSISTENT) for number in range(count)])
    changes = {
        "pause": lambda: server.call("POST", "/source/changed/pause") and server.call("POST", "/source/changed/resume"),
        "prefetch": lambda: server.add(
            "changed", node.url(), wanted=200, unique_for=0, prefetch=random.choice([10, 100, 5000])),
        "delete": lambda: server.call("DELETE", "/source/changed") and server.add("changed", node.url(), unique_for=0),
        "queue": lambda: server.call("POST", "/pause/changed") and server.call("POST", "/resume/changed"),
    }
    made = 0
    while server.tasks("changed") < count and made < 60:
        random.choice(list(changes.values()))()
        made += 1
        time.sleep(random.random() * 0.2)
    publisher.join()
    seen = collections.Counter(view["content"] for view in server.take("changed", count, 60))
    check("every message came", len(seen) == count, (len(seen), server.source("changed")))
    twice = [number for number, times in seen.items() if times > 1]
    check("none came twice", not twice, twice[:10])
    print(f"  {made} changes", flush=True)
    server.stop()


def terminated(node):
    part("SIGTERM")
    node.declare("terminated")
    data = directory()
    server = Emq(data=data)
    server.call("PUT", "/config/terminated", {"max_length": 100})
    server.add("terminated", node.url())
    node.publish_many("terminated", [(str(number), PERSISTENT) for number in range(2000)])
    server.until("terminated", "waiting")
    began = time.monotonic()
    server.stop()
    check("it ends soon", time.monotonic() - began < 5, time.monotonic() - began)
    eventually(lambda: node.counts("terminated") == (1900, 0, 0))
    counts = node.counts("terminated")
    check("everything is given back or acknowledged", counts == (1900, 0, 0), counts)
    server = Emq(data=data)
    server.call("PUT", "/config/terminated", {})
    # While messages come.
    eventually(lambda: server.tasks("terminated") > 200)
    server.stop()
    server = Emq(data=data)
    contents = collections.Counter(view["content"] for view in server.take("terminated", 2000, 30))
    check("each message is there once", sorted(contents) == list(range(2000)) and set(contents.values()) == {1},
          [pair for pair in contents.most_common(5) if pair[1] > 1])
    server.stop()


def little_memory(node):
    part("200 MB in RabbitMQ, and 32 MB of memory")
    node.declare("heavy")
    count = 20_000
    node.publish_many("heavy", [(f"{number} ".ljust(10_000, "x"), PERSISTENT) for number in range(count)])
    server = Emq("--max-memory", "32M")
    server.add("heavy", node.url())
    server.until("heavy", "waiting", 60)
    held = server.tasks("heavy")
    check("it takes what fits", held * 10_000 > 8 << 20, held)
    is_over = threading.Event()
    peak = 0

    def watch():
        nonlocal peak
        while not is_over.wait(0.05):
            peak = max(peak, server.resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    seen = collections.Counter()

    def work():
        taken = server.call("POST", "/wait/", {"queues": ["heavy"], "max": 100, "timeout": 500})[1] or []
        server.call("POST", "/ack/", {"ids": [view["receipt"] for view in taken]})
        seen.update(int(view["content"].split()[0]) for view in taken)
        return len(seen) >= goal

    goal = count // 2
    eventually(work, 90)
    check("it goes on as workers finish", len(seen) >= goal, (len(seen), server.source("heavy")))
    # A source can be changed when there is memory for it; then RabbitMQ sends all of the rest at once.
    server.call("POST", "/source/heavy/pause")
    goal = len(seen) + server.tasks("heavy")
    eventually(work, 30)
    server.add("heavy", node.url(), wanted=200, prefetch=65535)
    server.call("POST", "/source/heavy/resume")
    server.until("heavy", "waiting", 60)
    goal = count
    eventually(work, 90)
    check("all messages come", len(seen) == count, (len(seen), server.source("heavy")))
    check("none comes twice", sum(seen.values()) == count, [pair for pair in seen.most_common(5) if pair[1] > 1])
    is_over.set()
    watcher.join()
    print(f"  {held} tasks fit, {peak >> 20} MB were resident at most", flush=True)
    check("its memory is bounded", peak < (32 << 20) * 5 // 4 + (32 << 20), f"{peak >> 20} MB")
    server.stop()
    eventually(lambda: node.ready("heavy") == 0)
    check("nothing is left", node.counts("heavy")[:2] == (0, 0), node.counts("heavy"))


def slow_disk(node):
    part("a slow disk")
    if not shutil.which("strace"):
        return print("  skipped: there is no strace (apt-get install strace)")
    slow = lambda seconds: (
        "strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync",
        "-e", f"inject=fdatasync,fsync:delay_enter={int(seconds * 1e6)}")
    node.declare("slow")
    data = directory()
    messages = [(str(number), pika.BasicProperties(delivery_mode=2, message_id=f"slow-{number}"))
                for number in range(3000)]
    try:
        server = Emq(data=data, under=slow(0.2))
    except RuntimeError as error:
        return print(f"  skipped: {str(error).strip()}")
    server.add("slow", node.url())
    began = time.monotonic()
    node.publish_many("slow", messages)
    contents = [view["content"] for view in server.take("slow", 3000, 60)]
    check("all come, in order", contents == list(range(3000)), contents[:20])
    print(f"  3,000 messages took {time.monotonic() - began:.1f} s with 0.2 s for each sync", flush=True)
    eventually(lambda: node.counts("slow")[1] == 0)
    server.stop()
    server = Emq(data=data, under=slow(6))
    server.until("slow", "consuming", 60)
    # A part may be in the journal's file already, and comes again: the id keeps it from being added twice.
    for number in range(20):
        node.publish("slow", f"late {number}", message_id=f"late-{number}")
    ready, open, _ = node.counts("slow")
    check("what is not on disk is not acknowledged", ready + open == 20, (ready, open))
    server.kill()
    server = Emq(data=data)
    views = server.take("slow", 20)
    check("after SIGKILL, all are there", len({view["content"] for view in views}) == 20, views)
    eventually(lambda: node.counts("slow")[1] == 0)
    check("all are acknowledged", node.counts("slow")[:2] == (0, 0), node.counts("slow"))
    server.stop()
