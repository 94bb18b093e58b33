"""The requests and answers of the crash test."""

import collections
import threading
import time

from durable import Broken

# The queues of the workers. Tasks move between `left` and `right`; tasks of `frail` that fail twice go to `grave`;
# `ordered` has a single producer; `stopped` is paused from the first round to the last.
WORKED = ["plain", "keyed", "left", "right", "frail", "grave", "ordered", "stopped"]
# Queues without workers: one is purged now and then; in the other, tasks expire.
IDLE = ["purged", "expiring"]
TWINS = {"left": {"left", "right"}, "right": {"left", "right"}, "frail": {"frail", "grave"}}
UNFINISHED = ["dispatched", "delayed", "ready", "dead"]
FINISHED = ["done", "cancelled", "expired"]
# Seconds of tolerance for the two clocks and for a turn of the server.
SLACK = 0.05
MOST_UNFINISHED = 1200


class Task:
    """What the test knows about a task."""

    def __init__(self, number, queue, content, sent):
        self.number = number
        self.queue = queue
        self.content = content
        self.sent = sent
        self.id = None
        # The outcome of the enqueue: "open" (unknown), "there" or "never".
        self.arrival = "open"
        self.batch = [self]
        # When it is ready at the earliest.
        self.due = sent.get("eta", 0)
        # How it ended ("done", "cancelled", "purged"), and how it may have ended.
        self.end = None
        self.possible_ends = set()
        # When its end was requested, and when the answer came.
        self.ended = 0
        self.end_seen = 0
        # None: unknown.
        self.has_record = True
        self.result = None
        self.is_dead = False
        # A nak has no answer yet, so it may be in any unfinished state.
        self.is_open = False
        # The receipt that a worker holds.
        self.receipt = None
        self.lease_end = 0
        self.receipts = []
        self.attempt = 0
        self.received = 0
        self.is_cancelling = False
        # The result in an acknowledgement that may have ended it.
        self.possible_result = None
        # When it expires at the earliest and at the latest; known with the answer.
        self.expires = None
        # For a task with a key: the task that had the key before; and the contents before it was replaced.
        self.successor_of = None
        self.former_contents = []
        self.story = []

    # Leases of these tasks run out, or failures change them in more than one way.
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
    """All requests and answers. Call its methods with the lock held, except `fail`."""

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
        # A change sent at this time was answered. Frames are in order, so all earlier dispatches are safe.
        self.safe_time = 0
        # Acknowledgements and waits without an answer.
        self.open_acks = []
        self.open_waits = set()
        # The possible values of each configuration and pause.
        self.settings = collections.defaultdict(lambda: [None])
        # The number of unfinished tasks, and of tasks enqueued to the paused queue.
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
        """The task that an answer shows, found by its content."""
        number = view["content"]["number"]
        if number >= len(self.tasks):
            raise Broken(f"no request enqueued {str(view)[:300]}")
        task = self.by_id.get(view["id"], self.tasks[number])
        if task.arrival == "never":
            raise Broken(f"{view['id']} is there now, but was not after the restart", task)
        if task.id is None:
            task.id = view["id"]
            self.by_id[task.id] = task
        if task.id != view["id"]:
            raise Broken(f"{view['id']} is there a second time", task)
        if view["content"] != task.content and view["content"] not in task.former_contents:
            raise Broken(f"the content is different: {str(view['content'])[:300]}", task)
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
