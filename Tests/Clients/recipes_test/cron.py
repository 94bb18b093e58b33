"""Slots of time are neither lost nor doubled."""

import collections
import signal
import time

from recipes_test.checks import eventually, expect, holds
from recipes_test.document import Recipe
from recipes_test.peers import Emq

# Notes the slot and the task when it begins and when it has ended. In the slots named by files, it fails, or kills its
# worker, the first time.
REPORT = """#!/bin/sh
echo "begin $1 $EMQ_ID" >> runs
if rm fail 2>/dev/null; then exit 1; fi
if rm kill 2>/dev/null; then echo "kill $1 $EMQ_ID" >> runs; kill -9 $PPID; sleep 60; fi
echo "end $1 $EMQ_ID" >> runs
"""


class Runs:
    """What the command has noted."""

    def __init__(self, emq):
        self.path = emq.folder / "runs"

    def read(self, kind):
        lines = [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []
        return [(int(slot), identifier) for word, slot, identifier in lines if word == kind]

    def more(self, count):
        """Waits until so many more slots have ended."""
        wanted = len(self.read("end")) + count
        eventually(f"{wanted} slots have ended", lambda: len(self.read("end")) >= wanted)


def run(program):
    recipe = Recipe("Instead of cron")
    # A period of an hour becomes one of a second.
    begin, work = (text.replace("3600", "1") for text in recipe.commands("EMQ_QUEUE=hourly", "emq work"))
    with Emq(program) as emq:
        recipe.save(emq.folder)
        (emq.folder / "make-report").write_text(REPORT)
        (emq.folder / "make-report").chmod(0o755)
        # A worker that is killed loses its tasks after two seconds instead of five minutes.
        emq.ask("PUT", "/config/hourly", {"retry": 2})
        runs = Runs(emq)

        emq.run(begin)
        emq.run(begin)
        # The second may have come in the next slot.
        stats = emq.stats("hourly")
        holds("the chain has begun", 1 <= stats["delayed"] + stats["ready"] <= 2, stats)
        first = (emq.get("/peek/hourly?state=delayed&n=9") + emq.get("/peek/hourly?n=9"))[0]
        expect("its end and its retries", (None, 3), (first.get("expires"), emq.task(first["id"])["max_retries"]))
        workers = [emq.worker(work) for _ in range(2)]
        runs.more(2)
        expect("runs of each slot", {1}, set(collections.Counter(runs.read("end")).values()))

        (emq.folder / "fail").touch()
        runs.more(2)
        emq.run(begin)
        (emq.folder / "kill").touch()
        eventually("a worker is killed", lambda: any(worker.poll() == -signal.SIGKILL for worker in workers))
        workers.append(emq.worker(work))
        [killed] = runs.read("kill")
        eventually("its slot comes again", lambda: killed in runs.read("end"))
        begun, ended = collections.Counter(runs.read("begin")), collections.Counter(runs.read("end"))
        expect("ends of each slot", {1}, set(ended.values()))
        expect("slots that began twice", [2, 2], sorted(number for number in begun.values() if number > 1))

        emq.kill()
        time.sleep(1)
        emq.start()
        runs.more(3)
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                worker.wait(60)
        slots = [slot for slot, _ in set(runs.read("end"))]
        # Each has one task, and so one id.
        expect("slots", list(range(min(slots), max(slots) + 1)), sorted(slots))
        stats = emq.stats("hourly")
        holds("there is one next slot", stats["delayed"] + stats["ready"] == 1, stats)
