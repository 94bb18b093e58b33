"""A running emq, and the requests about sources and tasks that the scenes share."""

import http.client
import os
import re
import signal
import socket
import subprocess
import tempfile

from rabbitmq_test.node import PASSWORD
from tls_test import peers
from tls_test.peers import check, eventually


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix-domain socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Emq(peers.Emq):
    """A running emq, reached without TLS. `under` is a command that runs it."""

    def __init__(self, *options, data=None, under=(), push="loopback"):
        self.path = tempfile.mktemp(dir=peers.work)
        options += ("--data", data) if data else ()
        options += ("--push", push) if push else ()
        self.log_path = tempfile.mktemp(dir=peers.work)
        with open(self.log_path, "w") as log:
            command = [*under, peers.emq, "--addr", f"unix:{self.path}", "--addr", "http://127.0.0.1:0", *options]
            self.process = subprocess.Popen(command, stderr=log)
        peers.running.append(self.process)
        has_ended = lambda: self.process.poll() is not None
        self.urls = eventually(lambda: has_ended() or re.findall(r"http://([^ ;,\s]+:\d+)[;,\s]", self.log()))
        if not self.urls or has_ended():
            raise RuntimeError(f"emq did not start: {self.log()}")
        self.url = f"http://{self.urls[0]}"
        self.port = int(self.url.rsplit(":", 1)[1])
        if not eventually(self.works, 60):
            raise RuntimeError(f"emq does not become ready: {self.log()}")

    def call(self, method, path, body=None):
        """One request: its status, and the JSON of the response."""
        return peers.exchange(UnixConnection(self.path, 60), method, path, body)

    def add(self, name, url, wanted=201, **more):
        """Adds a source. Its queue has its name unless `more` says something else."""
        status, answer = self.call("PUT", f"/source/{name}", {"amqp": url, "queue": name, **more})
        check(f"PUT /source/{name}", status == wanted, f"{status}: {answer}")
        return answer

    def source(self, name):
        """The source as /stats/ shows it."""
        return (self.call("GET", "/stats/")[1].get("sources") or {}).get(name) or {}

    def until(self, name, state, seconds=20):
        """Waits until the source is in this state."""
        eventually(lambda: self.source(name).get("state") == state, seconds)
        got = self.source(name)
        check(f"the source {name} is {state}", got.get("state") == state, f"{got}\n{self.log()[-600:]}")
        return got

    def until_error(self, name, *words, seconds=20):
        """Waits until the source's last error has all the words."""
        has = lambda: all(word in (self.source(name).get("last_error") or "") for word in words)
        got = eventually(has, seconds)
        last = self.source(name)
        for word in words:
            check(f"the error of {name}", word, last.get("last_error"))
        print(f"  {name}: {last.get('last_error')}", flush=True)
        return got

    def tasks(self, queue):
        """How many unfinished tasks a queue has."""
        status, stats = self.call("GET", f"/stats/{queue}")
        return sum(stats.get(state, 0) for state in ("ready", "delayed", "dispatched", "dead")) if status == 200 else 0

    def until_tasks(self, queue, count, seconds=20):
        eventually(lambda: self.tasks(queue) >= count, seconds)
        check(f"{queue} has {count} tasks", self.tasks(queue) == count, f"{self.tasks(queue)}; {self.source(queue)}")

    def take(self, queue, count, seconds=20):
        """Takes and acknowledges so many tasks, and checks that there are no more. Returns their views."""
        views = []
        def more():
            taken = self.call("POST", "/wait/", {"queues": [queue], "max": 1000, "timeout": 200})[1]
            if taken:
                views.extend(taken)
                self.call("POST", "/ack/", {"ids": [view["receipt"] for view in taken]})
            return len(views) >= count
        eventually(more, seconds)
        check(f"{count} tasks of {queue}", len(views) == count, f"{len(views)}: {views[:3]}; {self.source(queue)}")
        return views

    def take_one(self, queue):
        """Takes the one task of a queue; its content is None if there is none."""
        views = self.take(queue, 1)
        return views[0] if views else {"content": None, "metadata": {}}

    def check_log(self):
        """Checks that no password is in the log."""
        for secret in (PASSWORD, "wrong-horse"):
            check("the log has no password", secret not in self.log(), self.log())

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        peers.running.remove(self.process)

    def stop(self):
        super().stop()
        self.check_log()

    def resident(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


def directory():
    return tempfile.mkdtemp(dir=peers.work)
