"""The checks of the crash test after each restart."""

import collections
import time
import urllib.parse

from crash_test.ledger import FINISHED, IDLE, SLACK, UNFINISHED, WORKED, ledger
from durable import Broken


class Inspection:
    """Reads everything after a restart, before other requests are sent."""

    def __init__(self, client):
        self.client = client
        self.began = time.time()
        self.views = {}
        self.order = collections.defaultdict(list)
        stats = client("GET", "/stats/")
        self.queues = sorted({*WORKED, *IDLE})
        # In the order in which time changes states, so that no task is missed.
        for state in UNFINISHED + FINISHED:
            for queue in self.queues:
                self.list(queue, state)
        self.ended = time.time()
        later = client("GET", "/stats/")
        seen = collections.Counter(v["state"] for v in self.views.values())
        for state in ("dead", "done", "cancelled"):
            counts = [sum(q[state] for q in s["queues"].values()) for s in (stats, later)]
            if not min(counts) <= seen[state] <= max(counts):
                raise Broken(f"{seen[state]} tasks are {state}, /stats/ says {counts}")

    def list(self, queue, state):
        views = {}
        after = None
        while True:
            path = f"/peek/{queue}?n=1000&state={state}" + (f"&after={after}" if after else "")
            page = self.client("GET", path, expected=(200, 404))
            if self.client.status == 404:
                # The task has changed its state. Start again.
                after = None
                views.clear()
                continue
            for view in page:
                task = ledger.find(view)
                if task in views:
                    raise Broken(f"it is listed twice among {state} tasks", task)
                views[task] = view
            if len(page) < 1000:
                break
            after = page[-1]["id"]
        self.order[queue, state] = list(views)
        for task, view in views.items():
            if task.number in self.views and state in FINISHED:
                raise Broken(f"it is {state} and {self.views[task.number]['state']}", task)
            self.views[task.number] = view

    def check(self):
        for task in list(ledger.current.values()):
            self.check_arrival(task)
        for ack in ledger.open_acks:
            self.check_ack(ack)
        for task in list(ledger.current.values()):
            self.check_task(task)
        for (kind, name), values in ledger.settings.items():
            if kind == "config":
                value = self.client("GET", f"/config/{urllib.parse.quote(name)}")
            else:
                value = self.client("GET", f"/stats/{urllib.parse.quote(name)}")["paused"]
            values = [({} if kind == "config" else False) if v is None else v for v in values]
            if value not in values:
                raise Broken(f"{kind} of {name} is {value}, not one of {values}")
            ledger.settings[kind, name] = [value]
        self.check_order()
        ledger.open_acks = []
        ledger.open_waits = set()

    def is_there(self, task):
        return task.number in self.views

    def check_arrival(self, task):
        if task.arrival != "open":
            return
        successor = task.successor_of
        if task.queue == "keyed" and successor and not self.is_there(task):
            # It either replaced the task before it, or was not added.
            view = self.views.get(successor.number)
            if view and view["state"] == "dispatched":
                successor.is_open = True
            elif view and view["content"] == task.content:
                successor.tell(f"replaced by the content of {task.number}, as it came back")
                successor.former_contents.append(successor.content)
                successor.content = task.content
        there = [self.is_there(t) for t in task.batch]
        if "expiry" in task.sent:
            # Some tasks of the batch may have expired already.
            there = [True] if any(there) else [False]
        if any(there) and not all(there):
            raise Broken(f"{sum(there)} of the {len(there)} tasks of a batch are there", task, *task.batch)
        if all(there):
            ledger.counts["enqueues without an answer that were done"] += 1
            ledger.arrive(task)
        else:
            ledger.counts["enqueues without an answer that were not"] += 1
            for other in task.batch:
                other.arrival = "never"
                other.tell("was never enqueued")
                ledger.current.pop(other.number, None)

    def check_ack(self, ack):
        done = []
        for task, receipt in ack["pairs"]:
            if task.is_cancelling or task.is_loose:
                continue
            view = self.views.get(task.number)
            done.append(view is None or view["state"] in FINISHED)
        if done and any(done) and not all(done):
            raise Broken("an acknowledgement took effect in part", *[t for t, _ in ack["pairs"]])
        if len(done) > 1:
            ledger.counts["acks of several without an answer"] += 1

    def check_task(self, task):
        view = self.views.get(task.number)
        state = view["state"] if view else None
        if task.queue == "expiring":
            return self.check_expiring(task, state)
        if state is not None:
            task.tell(f"came back as {state}, attempt {view['attempt']}")
        if task.arrival != "there":
            return
        if task.end is None and state not in UNFINISHED:
            if not task.possible_ends:
                raise Broken("it is lost" if state is None else f"it has ended: {state}", task)
            if "cancelled" in task.possible_ends:
                task.has_record = None
            if "done" in task.possible_ends:
                task.result = task.possible_result
            ledger.finish(task, state or task.possible_ends.copy().pop(), 0)
            task.tell(f"so it has ended: {task.end}")
        if task.end:
            return self.check_ended(task, view, state)
        task.possible_ends.clear()
        if view["content"] != task.content and not (task.queue == "keyed" and state == "dispatched"):
            if not task.is_open:
                raise Broken("it has the content from before it was replaced", task)
        if not task.is_loose:
            allowed = self.allowed_states(task)
            if state not in allowed:
                raise Broken(f"it is {state}, but should be {' or '.join(sorted(allowed))}", task)
            self.check_attempt(task, view)
        if task.receipt and (state != "dispatched" or view["attempt"] != task.attempt):
            ledger.counts["dispatches that were forgotten"] += 1
        self.settle(task, view, state)

    def check_expiring(self, task, state):
        if task.arrival != "there" or task.end or task.expires is None:
            return
        if state is None and self.ended < task.expires[0] - SLACK:
            raise Broken("it expired too early", task)
        if state is not None and self.began > task.expires[1] + 0.5:
            raise Broken("it should have expired, but is still there", task)
        if state is None:
            ledger.finish(task, "expired", 0)
            del ledger.current[task.number]

    def check_ended(self, task, view, state):
        if state in UNFINISHED:
            raise Broken(f"it is {state} after its end ({task.end})", task)
        # A replacement has another `keep`.
        is_kept = task.has_record is True and task.end != "purged" and task.queue != "keyed"
        if state is None:
            if is_kept and self.ended < task.ended + task.sent.get("keep", 0) - SLACK:
                raise Broken("its record is lost", task)
            del ledger.current[task.number]
        elif task.queue != "keyed":
            if state != task.end or task.has_record is False:
                raise Broken(f"its record says {state}", task)
            if view.get("finished", 0) + task.sent.get("keep", 0) < self.began - 0.5:
                raise Broken("its record was kept for too long", task)
            record = self.client("GET", f"/task/{task.id}", expected=(200, 404))
            if self.client.status == 200 and record.get("result") != task.result:
                raise Broken(f"its result is {record.get('result')}, not {task.result}", task)

    def allowed_states(self, task):
        if task.is_dead:
            return {"dead"}
        waiting = {"delayed"} if task.due > self.ended + SLACK else {"ready"}
        if self.began - SLACK < task.due <= self.ended + SLACK:
            waiting = {"delayed", "ready"}
        if task.is_open:
            return set(UNFINISHED)
        if task.receipt or any(task in [t for t, _ in ack["pairs"]] for ack in ledger.open_acks):
            return {"dispatched"} if ledger.is_attempt_safe(task) else waiting | {"dispatched"}
        if any(task.queues & set(wait) for wait in ledger.open_waits):
            return waiting | {"dispatched"}
        return waiting

    def check_attempt(self, task, view):
        lowest = task.attempt if ledger.is_attempt_safe(task) else task.attempt - 1
        highest = task.attempt + 1 if view["state"] == "dispatched" and not task.receipt else task.attempt
        if not lowest <= view["attempt"] <= highest and not task.is_open:
            raise Broken(f"it is attempt {view['attempt']}, which should be {lowest} to {highest}", task)
        if view.get("priority", task.sent.get("priority", 0)) != task.sent.get("priority", 0):
            raise Broken(f"its priority is {view['priority']}", task)

    def settle(self, task, view, state):
        """Records the view as the task's state from now on."""
        receipt = task.receipts[-1] if task.receipts else None
        if receipt and (state != "dispatched" or view["attempt"] != task.attempt and not task.is_open):
            # This dispatch is over or was not recovered. In both cases the receipt must do nothing. After a release
            # without an answer, it is unknown whether the dispatch is over: the next attempt has the same number.
            if self.client("POST", "/ack/", {"ids": [receipt]})["acked"]:
                raise Broken(f"{receipt} acknowledges a task that is {state}", task)
        is_held = state == "dispatched" and receipt and view["attempt"] == task.attempt
        attempt = view["attempt"]
        if state == "dispatched" and not is_held:
            # The answer was lost with the server. A task that must keep its place is finished at once.
            if task.queue == "ordered":
                self.client("POST", "/ack/", {"ids": [task.id]})
                ledger.finish(task, "done", time.time())
                task.result = None
                task.tell("acknowledged by its id")
                return
            answer = self.client("POST", "/nak/", {"ids": [task.id], "release": True})
            if not answer["requeued"] and not task.is_loose:
                raise Broken(f"it cannot be released: {answer}", task)
            task.tell("released by its id")
            attempt -= 1
        task.receipt = receipt if is_held else None
        if is_held:
            task.lease_end = view_end = self.client("GET", f"/task/{task.id}").get("lease_end", 0)
            if not task.is_loose and view_end < self.ended + 1:
                raise Broken(f"its lease ends at {view_end}", task)
        task.is_dead = state == "dead"
        # A replacement may still wait for the attempt to end.
        task.is_open = task.is_open and task.queue == "keyed" and state == "dispatched"
        task.due = view.get("due", 0) if state == "delayed" else 0
        (task.attempt, task.received) = (attempt, 0)
        if task.queue == "keyed" and not is_held:
            task.content = view["content"]
            task.former_contents = []

    def check_order(self):
        tasks = self.order["ordered", "ready"]
        keys = [(-task.sent.get("priority", 0), task.number) for task in tasks]
        for (first, second), pair in zip(zip(keys, keys[1:]), zip(tasks, tasks[1:])):
            if first > second:
                raise Broken("these tasks are in the wrong order", *pair)
        keys = collections.Counter(t.sent["key"] for t in ledger.current.values()
                                   if t.queue == "keyed" and t.arrival == "there" and not t.end)
        for key, count in keys.items():
            if count > 1:
                raise Broken(f"{count} unfinished tasks have the key {key}",
                             *[t for t in ledger.current.values() if t.sent.get("key") == key])
