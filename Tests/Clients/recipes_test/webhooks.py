"""Webhooks are signed, tried again, put aside and sent again. A receiver that fails is left alone."""

import base64
import hashlib
import hmac
import json
import re

from recipes_test.checks import eventually, expect, holds, need
from recipes_test.document import Recipe
from recipes_test.peers import Emq, Site


def check_signature(fields, body, secret):
    """Checks a request as Standard Webhooks says."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = f"{fields['webhook-id']}.{fields['webhook-timestamp']}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
    expect("the signature", wanted, fields["webhook-signature"])


def run(program):
    need("openssl")
    recipe = Recipe("Send webhooks")
    add, send, again = recipe.commands("./add-receiver.sh", "emq add", "emq peek")
    with Emq(program, "--push", "loopback") as emq, Site() as site:
        recipe.save(emq.folder)
        secret = emq.run("echo whsec_$(openssl rand -base64 32)").strip()
        emq.run(re.sub(r'"whsec_.*"', secret, add.replace("localhost:9000", site.address)))
        config = emq.get("/config/hooks/acme")
        expect("the signature's kind", "standard", config["push"]["signature"])
        expect("the retries", (20, {"failures": 5, "pause": 60}), (config["max_retries"], config["push"]["circuit"]))
        # Eleven hours, at least: the backoff without its jitter, of up to a fifth.
        pauses = [min(config["backoff"]["min"] * 2**n, config["backoff"]["max"]) for n in range(20)]
        holds("the retries take about eleven hours", 10.5 < sum(pauses) / 3600 < 11.5, sum(pauses))
        emq.ask("PATCH", "/config/hooks/acme", {"backoff": {"min": 0.05, "max": 0.05, "jitter": 0}})

        # Two failures, then a success; enqueued twice.
        site.statuses["/hook"] = [500, 500, 200]
        identifier = emq.run(send).strip()
        expect("the same event", identifier, emq.run(send).strip())
        eventually("the event is sent", lambda: emq.stats("hooks/acme")["totals"]["acked"] == 1)
        emq.run(send)
        expect("the ids of the requests", [identifier] * 3, [fields["webhook-id"] for _, fields, _ in site.requests])
        for _, fields, body in site.requests:
            check_signature(fields, body, secret)
            expect("the event", {"type": "order.paid", "data": {"order": 17}}, json.loads(body))

        # The circuit opens after five failures in a row; the tasks wait.
        site.statuses["/hook"] = [500]
        emq.post("/enqueue/hooks/acme", [{"content": number} for number in range(4)])
        eventually("the circuit is open", lambda: emq.stats("hooks/acme")["circuit"]["state"] == "open")
        stats = emq.stats("hooks/acme")
        expect("tasks that have died", 0, stats["totals"]["died"])
        holds("the failures", 5 <= stats["totals"]["nacked"] - 2 <= 5 + config["push"]["concurrency"], stats)
        holds("it stays open for a minute", stats["circuit"]["until"] > emq.get("/stats/")["server"]["now"], stats)
        # Another receiver is not delayed.
        emq.run(f"./add-receiver.sh other {site.url}/other {secret}")
        emq.post("/enqueue/hooks/other", {"content": "hello"})
        eventually("another receiver gets its event", lambda: "/other" in site.paths())
        site.statuses["/hook"] = [200]
        # Any change closes the circuit at once.
        emq.ask("PATCH", "/config/hooks/acme", {"push": {"circuit": {"failures": 5, "pause": 61}}})
        eventually("all events are sent", lambda: emq.stats("hooks/acme")["totals"]["acked"] == 5)

        # A receiver that answers 410 wants no retries; the event is put aside, and sent again later.
        site.statuses["/hook"] = [410, 200]
        gone = emq.post("/enqueue/hooks/acme", {"content": "gone"})["id"]
        eventually("it is put aside", lambda: emq.stats("failed-hooks")["ready"] == 1)
        printed = emq.run(again)
        holds("`emq peek` shows it, and why", gone in printed and "410" in printed, printed)
        eventually("it is sent again", lambda: emq.stats("hooks/acme")["totals"]["acked"] == 6)
        expect("events put aside", 0, emq.stats("failed-hooks")["ready"])
