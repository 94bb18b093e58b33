"""Payments are booked once, although their tasks come twice."""

import json
import random
import signal
import sqlite3
import subprocess

from recipes_test.checks import eventually, expect
from recipes_test.document import Recipe
from recipes_test.peers import Emq


def run(program):
    recipe = Recipe("Do the work of a task only once")
    work = recipe.command("emq work")
    seed = random.randrange(1 << 32)
    print(f"once: the seed is {seed}", flush=True)
    chance = random.Random(seed)
    with Emq(program) as emq:
        recipe.save(emq.folder)
        emq.ask("PUT", "/config/payments", {"retry": 2})

        def balances():
            with sqlite3.connect(emq.folder / "accounts.db") as database:
                return dict(database.execute("SELECT name, balance FROM accounts"))

        # A worker that dies between the work and the acknowledgement.
        identifier = emq.post("/enqueue/payments", {"content": {"to": "ann", "amount": 5}, "keep": 60})["id"]
        [task] = emq.post("/wait/", {"queues": ["payments"], "max": 1})
        line = json.dumps({key: task[key] for key in ("id", "queue", "attempt", "content")}) + "\n"
        subprocess.run(["./book.py"], cwd=emq.folder, input=line, text=True, check=True, capture_output=True)
        expect("the balance", {"ann": 5}, balances())
        worker = emq.worker(work)
        eventually("the task comes again, and is done", lambda: emq.task(identifier)["state"] == "done")
        expect("its attempts", 2, emq.task(identifier)["attempt"])
        expect("the balance after that", {"ann": 5}, balances())

        # Many tasks, and workers and a server that are killed again and again.
        amounts = {name: [chance.randrange(1, 100) for _ in range(200)] for name in ("bob", "eve")}
        payments = [{"content": {"to": name, "amount": amount}, "keep": 600}
                    for name, each in amounts.items() for amount in each]
        emq.post("/enqueue/payments", payments)
        for kill in range(6):
            wanted = kill * 30 + chance.randrange(30)
            eventually("some payments", lambda: emq.stats("payments")["done"] >= wanted)
            if kill == 3:
                emq.kill()
                emq.start()
            else:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
                worker = emq.worker(work)
        emq.post("/enqueue/payments", {"content": "not a payment", "max_retries": 0})
        eventually("all payments", lambda: emq.stats("payments")["done"] == 401)
        expect("the balances", {"ann": 5, "bob": sum(amounts["bob"]), "eve": sum(amounts["eve"])}, balances())
        [dead] = eventually("a wrong payment is dead", lambda: emq.get("/peek/payments?state=dead"))
        expect("its content", "not a payment", dead["content"])
        worker.send_signal(signal.SIGTERM)
        expect("the exit status of the worker", 0, worker.wait(60))
