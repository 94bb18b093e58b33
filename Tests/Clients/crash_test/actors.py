"""The threads of the crash test, which send requests at random."""

import random
import threading
import time
import urllib.parse

from crash_test.ledger import MOST_UNFINISHED, SLACK, WORKED, ledger
from durable import Broken, Client, Lost


class Actor:
    """A thread that sends requests until the server is killed."""

    def __init__(self, name, port, seed):
        self.name = name
        self.client = Client(port)
        self.random = random.Random(f"{seed} {ledger.round} {name}")
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while ledger.failure is None:
                self.step()
        except Lost:
            pass
        except Broken as error:
            ledger.fail(error)
        except Exception as error:  # a bug in this script
            ledger.fail(error)
            raise

    def change(self, method, path, body=None, expected=(200, 204)):
        sent = time.time()
        answer = self.client(method, path, body, expected)
        with ledger.lock:
            ledger.safe_time = max(ledger.safe_time, sent)
            ledger.counts["answers"] += 1
        return answer


class Producer(Actor):
    def step(self):
        if ledger.live > MOST_UNFINISHED:
            time.sleep(0.02)
        choice = self.random.random()
        if choice < 0.55:
            self.enqueue([self.make()])
        elif choice < 0.75:
            first = self.make()
            others = self.random.choice([1, 50, 1000] if first.queue == "purged" else [1, 3, 10, 60])
            self.enqueue([first] + [self.make(first.queue) for _ in range(others)], isArray=True)
        elif choice < 0.9:
            self.enqueue_key()
        elif choice < 0.95:
            self.cancel()
        elif self.name == "producer 0":
            self.purge()

    def make(self, queue=None):
        choose = self.random
        names = ["plain"] * 4 + ["left", "right", "frail"] + ["stopped"] * (ledger.stopped < 300)
        if self.name == "producer 0":
            names += ["ordered"] * 4 + ["purged"] * 2 + ["expiring"]
        queue = queue or choose.choice(names)
        sent = {}
        if queue == "expiring":
            sent["expiry"] = choose.choice([0.5, 2, 5])
        elif queue != "purged":
            if choose.random() < 0.4:
                sent["priority"] = choose.randint(-2, 2)
            if choose.random() < 0.3:
                sent["keep"] = choose.choice([1, 5, 60])
            if choose.random() < 0.2:
                sent["metadata"] = {"trace": f"{choose.random()}"}
        if queue not in ("ordered", "purged", "expiring"):
            if choose.random() < 0.15:
                sent["eta"] = round(time.time() + choose.choice([0.1, 0.5, 2]), 3)
            if queue == "plain" and choose.random() < 0.1:
                sent["retry"] = choose.choice([0.2, 0.7])
                if choose.random() < 0.5:
                    sent["max_retries"] = choose.randint(0, 2)
        with ledger.lock:
            return ledger.new_task(queue, choose, **sent)

    def enqueue(self, tasks, isArray=False):
        with ledger.lock:
            for task in tasks:
                task.batch = tasks
                task.tell(f"{self.name} enqueues it, {task.sent}" + (f", with {len(tasks) - 1} others" if isArray else ""))
        bodies = [{"content": task.content, **task.sent} for task in tasks]
        sent = time.time()
        answer = self.change("POST", f"/enqueue/{tasks[0].queue}", bodies if isArray else bodies[0])
        now = time.time()
        ids = answer["ids"] if isArray else [answer["id"]]
        if len(set(ids)) != len(tasks) or "existing" in answer:
            raise Broken(f"{len(tasks)} tasks were enqueued, and the answer is {answer}", *tasks)
        with ledger.lock:
            for task, id in zip(tasks, ids):
                if task.id not in (None, id):
                    raise Broken(f"the answer has the id {id}", task)
                task.id = id
                ledger.by_id[id] = task
                task.tell("enqueued")
                if "expiry" in task.sent:
                    task.expires = (sent + task.sent["expiry"], now + task.sent["expiry"])
            ledger.arrive(tasks[0])
            ledger.counts["tasks"] += len(tasks)

    def enqueue_key(self):
        """Enqueues with a key that only this producer uses, so its holder is known but for the workers' changes."""
        key = f"{self.name}-{self.random.randrange(6)}"
        on_conflict = self.random.choice(["keep", "replace", "reject"])
        with ledger.lock:
            task = ledger.new_task("keyed", self.random)
            task.sent = {"key": key, "on_conflict": on_conflict, "keep": self.random.choice([0, 5])}
            task.tell(f"{self.name} enqueues it, {task.sent}")
            holder = next((t for t in self.keyed(key) if t is not task), None)
            # The holder of the key may get this content, unless the answer says otherwise.
            task.successor_of = holder
            if holder:
                holder.former_contents.append(task.content)
                holder.tell(f"{self.name} enqueues {task.number} with its key, {on_conflict}")
                was_free = holder.end is not None
                # From now on, an acknowledgement may end the task, or only the attempt from before the replacement.
                if on_conflict == "replace":
                    (holder.is_open, holder.due) = (True, 0)
        answer = self.change("POST", "/enqueue/keyed", {"content": task.content, **task.sent}, (200, 409))
        with ledger.lock:
            ledger.counts["keys"] += 1
            holder_is_done = holder and (holder.end or holder.possible_ends or holder.is_open)
            if self.client.status == 409 or answer.get("existing"):
                task.arrival = "never"
                task.tell(f"answered {answer}")
                del ledger.current[task.number]
                if holder is None or was_free and not holder.is_open and holder.arrival == "there":
                    others = [t for t in self.keyed(key) if t.arrival == "open"]
                    raise Broken(f"no task has its key, but the answer is {answer}", task, *others, *filter(None, [holder]))
                if self.client.status == 200 and on_conflict == "replace":
                    if answer["id"] != holder.id:
                        raise Broken(f"it replaces {answer['id']}", task, holder)
                    holder.former_contents.remove(task.content)
                    holder.former_contents = [*holder.former_contents[-3:], holder.content]
                    holder.content = task.content
                    holder.tell(f"replaced by the content of {task.number}")
                    self.reopen(holder)
                elif self.client.status == 200 and on_conflict == "keep" and answer["id"] != holder.id:
                    raise Broken(f"the key belongs to {answer['id']}", task, holder)
                else:
                    holder.former_contents.remove(task.content)
                return
            if holder:
                holder.former_contents.remove(task.content)
                if not holder_is_done:
                    raise Broken("a second task has its key", task, holder)
            task.id = answer["id"]
            ledger.by_id[task.id] = task
            ledger.arrive(task)
            task.tell("enqueued")

    def keyed(self, key):
        return [t for t in ledger.current.values() if t.sent.get("key") == key and t.arrival != "never"][::-1]

    def reopen(self, task):
        """It was replaced, and an acknowledgement was answered meanwhile. The order of the two is unknown."""
        if task.end:
            ledger.live += 1
            task.end = None
            task.possible_ends.add("done")

    def cancel(self):
        with ledger.lock:
            candidates = [t for t in ledger.current.values()
                          if t.id and not t.end and not t.is_cancelling and t.queue in ("plain", "left", "frail")]
            if not candidates:
                return
            task = self.random.choice(candidates)
            task.is_cancelling = True
            task.possible_ends.add("cancelled")
            task.tell(f"{self.name} cancels it")
        sent = time.time()
        self.change("DELETE", f"/task/{task.id}", expected=(204, 404))
        with ledger.lock:
            task.tell(f"cancelled: {self.client.status}")
            if self.client.status == 204:
                # If it was done or dead before, the cancellation deleted its record.
                may_be_over = "done" in task.possible_ends or task.is_dead or task.is_open or task.is_loose
                task.has_record = False if task.end else None if may_be_over else True
                ledger.finish(task, "cancelled", sent)
            elif task.end is None and not task.possible_ends - {"cancelled"} and not task.is_loose:
                raise Broken("it cannot be cancelled: 404", task)
            else:
                task.possible_ends.discard("cancelled")

    def purge(self):
        with ledger.lock:
            tasks = [t for t in ledger.current.values() if t.queue == "purged" and not t.end and t.arrival == "there"]
            for task in tasks:
                task.possible_ends.add("purged")
                task.tell(f"{self.name} purges its queue")
        answer = self.change("POST", "/purge/purged")
        with ledger.lock:
            ledger.counts["purges"] += 1
            if answer["purged"] != len(tasks):
                raise Broken(f"{answer['purged']} tasks were purged, not {len(tasks)}", *tasks)
            for task in tasks:
                ledger.finish(task, "purged", 0)
                task.tell("purged")


class Worker(Actor):
    def __init__(self, *arguments):
        self.hand = []
        super().__init__(*arguments)

    def step(self):
        choose = self.random
        queues = choose.sample(WORKED, choose.randint(1, len(WORKED)))
        handed_in = [(t, r) for t, r in self.hand if choose.random() < 0.6]
        self.hand = [pair for pair in self.hand if pair not in handed_in]
        body = {"queues": queues, "max": choose.choice([1, 2, 5, 20]), "timeout": choose.choice([0, 20, 100, 500])}
        ack = self.begin_ack(handed_in, None)
        if handed_in:
            body["ack"] = [receipt for _, receipt in handed_in]
        with ledger.lock:
            ledger.open_waits.add((self.name, *queues))
        sent = time.time()
        # A wait without acknowledgements changes nothing, so its answer does not show that earlier frames are safe.
        views = (self.change if handed_in else self.client)("POST", "/wait/", body)
        received = time.time()
        with ledger.lock:
            ledger.open_waits.discard((self.name, *queues))
            if handed_in:
                missing = self.client.fields.get("Emq-Missing", "")
                self.end_ack(ack, set(filter(None, missing.split(", "))))
            tasks = [pair for view in views if (pair := self.receive(view, sent, received))]
        for task, receipt in tasks:
            if len(task.receipts) > 1 and choose.random() < 0.2:
                self.try_former(task, choose.choice(task.receipts[:-1]))
        choose.shuffle(tasks)
        while tasks:
            count = choose.choice([1, 1, 2, 5])
            some, tasks = tasks[:count], tasks[count:]
            choice = choose.random()
            if choice < 0.55:
                self.acknowledge(some)
            elif choice < 0.65:
                self.nak(some)
            elif choice < 0.72:
                self.touch(some)
                self.hand += some
            elif choice < 0.95:
                self.hand += some
            # Tasks whose leases run out soon are dropped.
            else:
                self.hand += [pair for pair in some if "retry" not in pair[0].sent]

    def receive(self, view, sent, received):
        task = ledger.find(view)
        receipt = view["receipt"]
        # Also compares tokens across tasks: the same token twice is an error.
        token = receipt.split("@")[1]
        task.tell(f"{self.name} gets it: attempt {view['attempt']}, {token}")
        if token in ledger.tokens:
            raise Broken(f"the token {token} was used before", task)
        ledger.tokens.add(token)
        if task.end == "cancelled" and sent < task.end_seen:
            # It was cancelled while this answer was on its way.
            return None
        if task.end or task.is_dead:
            raise Broken(f"it is dispatched after its end ({task.end or 'dead'})", task)
        if view["queue"] == "stopped":
            raise Broken("its queue is paused", task)
        if received < task.due - SLACK:
            raise Broken(f"it is dispatched {task.due - received:.3f} s too early", task)
        if task.receipt and received < task.lease_end - SLACK:
            raise Broken("it is dispatched while another worker holds it", task)
        if task.queue != "keyed" and view["attempt"] <= task.attempt:
            raise Broken(f"attempt {view['attempt']} comes after {task.attempt}", task)
        ledger.arrive(task)
        ledger.counts["dispatches"] += 1
        (task.attempt, task.received, task.receipt) = (view["attempt"], received, receipt)
        # The earliest end: the server may have held the answer for a while.
        task.lease_end = sent + view["retry"]
        task.receipts.append(receipt)
        return task, receipt

    def try_former(self, task, receipt):
        answer = self.change("POST", "/ack/", {"ids": [receipt]})
        ledger.counts["former receipts"] += 1
        if answer["acked"]:
            raise Broken(f"{receipt} acknowledges a later dispatch", task)

    def begin_ack(self, pairs, results):
        ack = {"pairs": pairs, "sent": time.time(), "results": results}
        with ledger.lock:
            for position, (task, receipt) in enumerate(pairs):
                task.tell(f"{self.name} acknowledges {receipt.split('@')[1]}, with {len(pairs) - 1} others")
                task.possible_ends.add("done")
                task.possible_result = results[position] if results else None
                if task.receipt == receipt:
                    task.receipt = None
            if pairs:
                ledger.open_acks.append(ack)
        return ack

    def end_ack(self, ack, missing):
        ledger.open_acks.remove(ack)
        now = time.time()
        for position, (task, receipt) in enumerate(ack["pairs"]):
            if receipt in missing:
                task.tell("missing")
                task.possible_ends.discard("done")
                if task.has_record is None:
                    task.has_record = True
                if not (task.is_cancelling or task.is_loose):
                    raise Broken("the server no longer knows its receipt", task)
                continue
            task.tell("acknowledged")
            ledger.counts["acks"] += 1
            if task.queue == "keyed" and task.is_open:
                # It was replaced meanwhile, before or after this acknowledgement.
                continue
            if task.end == "cancelled" and task.has_record is None:
                task.has_record = False
                continue
            if task.end:
                raise Broken("it is acknowledged after its end", task)
            # A cancellation in progress may delete the record.
            if "cancelled" in task.possible_ends:
                task.has_record = None
            ledger.finish(task, "done", ack["sent"])
            task.result = ack["results"][position] if ack["results"] else None

    def acknowledge(self, pairs):
        ids = [receipt for _, receipt in pairs]
        results = [f"{self.random.random()}" for _ in pairs]
        kind = self.random.randrange(3)
        if kind == 0:
            results, body = None, {"ids": ids}
        elif kind == 1:
            results, body = [results[0]] * len(pairs), {"ids": ids, "result": results[0]}
        else:
            body = {"tasks": [{"id": id, "result": result} for id, result in zip(ids, results)]}
        ack = self.begin_ack(pairs, results)
        answer = self.change("POST", "/ack/", body)
        with ledger.lock:
            if answer["acked"] + len(answer["missing"]) != len(ids):
                raise Broken(f"{len(ids)} were acknowledged, the answer is {answer}", *[t for t, _ in pairs])
            self.end_ack(ack, set(answer["missing"]))

    def nak(self, pairs):
        choose = self.random
        how = choose.choice([{}, {"delay": 0.3}, {"delay": 1.5}, {"release": True}, {"dead": True}])
        # Tasks of `ordered` must keep their places, and a dead task has no key.
        spared = ("ordered", "keyed") if "dead" in how else ("ordered",)
        self.hand += [pair for pair in pairs if pair[0].queue in spared]
        pairs = [pair for pair in pairs if pair[0].queue not in spared]
        if not pairs:
            return
        body = {"ids": [receipt for _, receipt in pairs], **how}
        with ledger.lock:
            for task, _ in pairs:
                task.tell(f"{self.name} naks it, {how}")
                task.is_open = True
                task.receipt = None
                # A released attempt does not count.
                if "release" in how:
                    task.attempt -= 1
        sent = time.time()
        answer = self.change("POST", "/nak/", body)
        with ledger.lock:
            ledger.counts["naks"] += 1
            for task, receipt in pairs:
                if receipt in answer["missing"]:
                    if not (task.is_cancelling or task.is_loose):
                        raise Broken("the server no longer knows its receipt", task)
                    continue
                task.tell("nacked")
                if task.is_loose:
                    continue
                task.is_open = False
                if "dead" in body:
                    task.is_dead = True
                # Another worker may hold it by now.
                elif "delay" in body and not task.receipt:
                    task.due = sent + body["delay"]

    def touch(self, pairs):
        for task, receipt in pairs:
            task.tell(f"{self.name} touches it")
        answer = self.change("POST", "/touch/", {"ids": [receipt for _, receipt in pairs], "progress": {"half": True}})
        ledger.counts["touches"] += 1
        for task, receipt in pairs:
            if receipt in answer["missing"] and not (task.is_cancelling or task.is_loose):
                raise Broken("the server no longer knows its receipt", task)


class Operator(Actor):
    """Configures, pauses, moves, and kicks dead tasks."""

    def step(self):
        choose = self.random
        choice = choose.randrange(5)
        if choice == 0:
            name = f"settings {choose.randrange(3)}"
            value = {"retry": choose.randint(1, 1000), "keep": choose.randint(1, 9)}
            self.set(("config", name), value, "PUT", value)
        elif choice == 1:
            name = f"settings {choose.randrange(3)}"
            self.set(("config", name), {}, "DELETE", None)
        elif choice == 2:
            name = f"pauses {choose.randrange(3)}"
            verb = choose.choice(["pause", "resume"])
            self.set(("pause", name), verb == "pause", "POST", None, verb)
        elif choice == 3:
            names = choose.choice([("left", "right"), ("right", "left")])
            state = choose.choice(["ready", "delayed"])
            self.change("POST", f"/move/{names[0]}?to={names[1]}&state={state}&n={choose.choice([1, 10, 1000])}")
        else:
            with ledger.lock:
                dead = [t for t in ledger.current.values() if t.is_dead and not t.end and not t.possible_ends]
                some = choose.sample(dead, min(len(dead), 3))
                for task in some:
                    (task.is_dead, task.is_open) = (False, True)
                    task.tell("kicked")
            if some:
                answer = self.change("POST", "/kick/", {"ids": [task.id for task in some]})
                with ledger.lock:
                    for task in some:
                        if task.id in answer["missing"] and not task.is_cancelling:
                            raise Broken("it is not dead", task)
                        task.tell("kicked back")
                        task.is_open = task.id in answer["missing"]
        time.sleep(0.01)

    def set(self, setting, value, method, body, verb=None):
        with ledger.lock:
            ledger.settings[setting].append(value)
        self.change(method, f"/{verb or setting[0]}/{urllib.parse.quote(setting[1])}", body)
        with ledger.lock:
            ledger.settings[setting] = [value]
