"""What the crash test has asked for, and what it was answered."""

import collections
import threading
import time

from durable import Broken

# What the workers take from. Tasks of `left` and `right` are moved from one to the other; those of `frail` that fail twice
# go to `grave`; `ordered` has a single producer; `stopped` is paused from the first round to the last.
WORKED = ["plain", "keyed", "left", "right", "frail", "grave", "ordered", "stopped"]
# These have no workers: one is purged now and then, in the other tasks expire.
IDLE = ["purged", "expiring"]
TWINS = {"left": {"left", "right"}, "right": {"left", "right"}, "frail": {"frail", "grave"}}
UNFINISHED = ["dispatched", "delayed", "ready", "dead"]
FINISHED = ["done", "cancelled", "expired"]
# How far the clocks of both sides, and a turn of the server, may be apart.
SLACK = 0.05
MOST_UNFINISHED = 1200


class Task:
    """What is known of a task."""

    def __init__(self, number, queue, content, sent):
        self.number = number
        self.queue = queue
        self.content = content
        self.sent = sent
        self.id = None
        # "open", "there" or "never": what became of the enqueue.
        self.arrival = "open"
        self.batch = [self]
        # When it is ready at the earliest, and whether that is not known because an answer is missing.
        self.due = sent.get("eta", 0)
        # How it ended ("done", "cancelled", "purged"), or may have.
        self.end = None
        self.possible_ends = set()
        # When this was asked for, and when it was known.
        self.ended = 0
        self.end_seen = 0
        # None: nobody knows.
        self.has_record = True
        self.result = None
        self.is_dead = False
        # A nak without an answer: it may be in any unfinished state.
        self.is_open = False
        # The dispatch that a worker holds.
        self.receipt = None
        self.lease_end = 0
        self.receipts = []
        self.attempt = 0
        self.received = 0
        self.is_cancelling = False
        # What an acknowledgement that may have ended it had as its result.
        self.possible_result = None
        # Of one that expires: when at the earliest, and at the latest; known with the answer.
        self.expires = None
        # Of one with a key: which task had the key before; and what it had as its content before it was replaced.
        self.successor_of = None
        self.former_contents = []
        self.story = []

    # Leases of these run out by themselves, or failures change them in more than one way.
    @property
    def is_loose(self):
        return self.queue in ("frail", "keyed") or "retry" in self.sent

    @property
    def queues(self):
        return TWINS.get(self.queue, {self.queue})

    def tell(self, text):
        self.story.append(f"{time.time():.4f} round {ledger.round}: {text}")

    def __str__(self):
        return f"task {self.number} ({self.id}) of {self.queue}"


class Ledger:
    """All that was asked and answered. Its methods are called with the lock held, but `fail`."""

    def __init__(self):
        self.lock = threading.RLock()
        self.round = 0
        self.tasks = []
        self.by_id = {}
        self.tokens = set()
        # Unfinished tasks and records that may still be there, by number.
        self.current = {}
        self.failure = None
        self.counts = collections.Counter()
        # A change that was sent at this time is answered: frames are in order, so all dispatches before it are safe.
        self.safe_time = 0
        # The acknowledgements and the waits that were not answered.
        self.open_acks = []
        self.open_waits = set()
        # What a configuration or pause may be.
        self.settings = collections.defaultdict(lambda: [None])
        # How many tasks are unfinished, and how many were sent to the paused queue.
        self.live = 0
        self.stopped = 0

    def fail(self, error):
        with self.lock:
            if self.failure is None:
                self.failure = error

    def new_task(self, queue, random, **sent):
        task = Task(len(self.tasks), queue, None, sent)
        size = random.choice([0, 10, 100]) if random.random() < 0.95 else random.choice([5000, 30_000, 200_000])
        task.content = {"number": task.number, "padding": "é\\\"" * (size // 3)}
        self.tasks.append(task)
        self.stopped += queue == "stopped"
        self.current[task.number] = task
        return task

    def find(self, view):
        """The task that an answer shows; the content says which."""
        number = view["content"]["number"]
        if number >= len(self.tasks):
            raise Broken(f"nobody sent {str(view)[:300]}")
        task = self.by_id.get(view["id"], self.tasks[number])
        if task.arrival == "never":
            raise Broken(f"{view['id']} is there, and was not when the server came back", task)
        if task.id is None:
            task.id = view["id"]
            self.by_id[task.id] = task
        if task.id != view["id"]:
            raise Broken(f"{view['id']} is there a second time", task)
        if view["content"] != task.content and view["content"] not in task.former_contents:
            raise Broken(f"the content is another one: {str(view['content'])[:300]}", task)
        if view["queue"] not in task.queues:
            raise Broken(f"it is in {view['queue']}", task)
        if view.get("metadata") != task.sent.get("metadata") and task.queue != "keyed":
            raise Broken(f"its metadata are {view.get('metadata')}", task)
        return task

    def arrive(self, task):
        for other in task.batch:
            if other.arrival == "open":
                other.arrival = "there"
                self.live += 1

    def finish(self, task, end, started):
        if task.end is None:
            self.live -= 1
            (task.end, task.ended, task.end_seen) = (end, started, time.time())
        task.possible_ends.clear()
        task.receipt = None

    def is_attempt_safe(self, task):
        return task.received < self.safe_time


ledger = Ledger()
