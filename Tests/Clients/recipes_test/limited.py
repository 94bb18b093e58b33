"""Calls stay within a rate, sent by emq or by workers. What is measured are the server's own times, or how long calls
take at least, so a busy machine breaks nothing."""

import signal
import threading
import time

from recipes_test.checks import eventually, expect, holds, need
from recipes_test.document import Recipe
from recipes_test.peers import Emq, Site


def pushing(emq, site, command):
    emq.run(command.replace("localhost:9000", site.address))
    ids = emq.post("/enqueue/calls", [{"content": number, "keep": 600} for number in range(20)])["ids"]
    eventually("20 calls are sent", lambda: emq.stats("calls")["done"] == 20)
    times = sorted(emq.task(identifier)["attempts"][0]["dispatched"] for identifier in ids)
    for first in range(20):
        for last in range(first, 20):
            # A burst of five, then five a second. The times are not exactly those by which the server counts.
            most = 5 + 5 * (times[last] - times[first]) + 1
            holds("the rate is kept", last - first + 1 <= most, first, last, times)


def pulling(emq, site, command):
    # 429 puts the task off, and counts as no attempt. 500 is tried again. 404 makes it dead.
    site.statuses = {"/api": [429, 500, 404, 200]}
    begin = time.monotonic()
    ids = emq.post("/enqueue/pulled-calls", [{"content": {"n": n}, "keep": 600} for n in range(12)])["ids"]
    worker = emq.worker(command.replace("localhost:9000", site.address))
    eventually("all tasks have ended", lambda: (
        stats := emq.stats("pulled-calls"))["done"] == 11 and stats["dead"] == 1)
    worker.send_signal(signal.SIGTERM)
    expect("the exit status of the worker", 0, worker.wait(60))
    expect("calls", 14, len(site.times))
    # The last call is that of the task that was put off for five seconds.
    elapsed = site.times[12] - begin
    holds("each call has a fifth of a second", elapsed >= 0.2 * 13, elapsed)
    tasks = [emq.task(identifier) for identifier in ids]
    outcomes = sorted([attempt["outcome"] for attempt in task["attempts"]] for task in tasks)
    expect("outcomes", [["done"]] * 9 + [["failed"], ["failed", "done"], ["released", "done"]], outcomes)
    expect("results", ["fine"] * 11, [task["result"] for task in tasks if task["state"] == "done"])
    [dead] = [task for task in tasks if task["state"] == "dead"]
    holds("the error of the dead task says why", "status 404" in dead["error"], dead)


def run(program):
    need("flock")
    recipe = Recipe("Call a limited interface")
    push, pull = recipe.commands("curl", "API=")
    errors = []

    def part(step, command):
        try:
            with Emq(program, "--push", "loopback") as emq, Site() as site:
                recipe.save(emq.folder)
                step(emq, site, command)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=part, args=each) for each in ((pushing, push), (pulling, pull))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
